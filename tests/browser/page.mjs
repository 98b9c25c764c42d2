// Opens a page in Chromium, classifies texts there, and prints what it answers as JSON.
//
//     node page.mjs NODE_MODULES CHROMIUM ADDRESS TEXTS.json
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [modules, executablePath, address, file] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { default: puppeteer } = await import(require.resolve("puppeteer-core"));
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const problems = [], elsewhere = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("request", (request) => request.url().startsWith(address) || elsewhere.push(request.url()));
await page.setViewport({ width: 400, height: 800 });
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
console.log(JSON.stringify({ probabilities, shown, problems, elsewhere }));
await browser.close();
