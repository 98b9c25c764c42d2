// Opens a page in Chromium, classifies texts there, and prints what it answers as JSON.
//
//     node page.mjs NODE_MODULES CHROMIUM ADDRESS TEXTS.json
import { readFileSync } from "node:fs";
import { openChromium } from "./chromium.mjs";

const [modules, executablePath, address, file] = process.argv.slice(2);
const { browser, page, problems } = await openChromium(modules, executablePath);
const elsewhere = [];
page.on("request", (request) => request.url().startsWith(address) || elsewhere.push(request.url()));
await page.goto(address);
await page.waitForFunction(() => document.body.dataset.turn, { timeout: 120000 });
const probabilities = await page.evaluate(
  async (texts) => {
    const rows = [];
    for (const text of texts) rows.push(...(await window.classify([text])));
    return rows;
  },
  JSON.parse(readFileSync(file, "utf8")),
);
// by keyboard alone: from the text to the second example
const turn = await page.evaluate(() => document.body.dataset.turn);
await page.focus("#text");
await page.keyboard.press("Tab");
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
await page.waitForFunction((before) => document.body.dataset.turn !== before, { timeout: 60000 }, turn);
const shown = await page.evaluate(() => ({
  text: document.getElementById("text").value,
  answers: [...document.querySelectorAll("#answers li")].map((row) => row.textContent),
  chosen: [...document.querySelectorAll("#answers .chosen .name")].map((name) => name.textContent),
  words: [...document.querySelectorAll("#words span")].map((word) => [word.textContent, Number(word.title)]),
  isWiderThanThePhone: document.documentElement.scrollWidth > window.innerWidth,
}));
// an empty box has no answer
const before = await page.evaluate(() => document.body.dataset.turn);
await page.focus("#text");
await page.keyboard.down("Control");
await page.keyboard.press("a");
await page.keyboard.up("Control");
await page.keyboard.press("Delete");
await page.waitForFunction((turn) => document.body.dataset.turn !== turn, { timeout: 60000 }, before);
const emptied = await page.evaluate(() => ["status", "answers", "words", "legend"].map((id) => document.getElementById(id).textContent));
console.log(JSON.stringify({ probabilities, shown, emptied, problems, elsewhere }));
await browser.close();
