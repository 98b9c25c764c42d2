// Opens a lesson page in Chromium, uses it by keyboard and pointer, and prints what it shows as JSON.
//
//     node lesson.mjs NODE_MODULES CHROMIUM ADDRESS
import { openChromium } from "./chromium.mjs";

const [modules, executablePath, address] = process.argv.slice(2);
const { browser, page, problems } = await openChromium(modules, executablePath);
const requests = [];
page.on("console", (message) => problems.push(message.text()));
page.on("request", (request) => requests.push(request.url()));
await page.goto(address);
await page.waitForFunction(() => document.body.dataset.drawn);

/** The titles of the marks of each model in a view, its text, and whether something was drawn. */
const shown = () =>
  page.evaluate(() =>
    Object.fromEntries(
      [...document.querySelectorAll("section")].map((section) => [
        section.id.replace("view-", ""),
        [...section.querySelectorAll(".panels > div")].map((panel) => ({
          titles: [...panel.querySelectorAll("svg title")].map((title) => title.textContent),
          words: [...panel.querySelectorAll(".words span")].map((word) => [word.textContent, word.title]),
          cells: [...panel.querySelectorAll(".cells.data span")].map((cell) => cell.textContent),
          now: [...panel.querySelectorAll(".cells.data .now")].map((cell) => cell.textContent),
          text: panel.textContent,
          reason: panel.querySelector(".reason")?.textContent ?? null,
        })),
      ]),
    ),
  );
const first = await shown();
const isWiderThanThePhone = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
// by keyboard: another unit, another word, the next step
await page.focus("#view-unit input");
await page.keyboard.press("ArrowRight");
await page.focus("#view-reliance [data-place][tabindex='0']");
await page.keyboard.press("ArrowLeft");
await page.keyboard.press("ArrowLeft");
await page.focus("#view-packing .panels > div");
await page.keyboard.press("ArrowRight");
await page.keyboard.press("ArrowRight");
const byKeyboard = await shown();
// by pointer
await page.hover("#view-reliance [data-place='0']");
await page.click("#view-packing .panels > div:nth-child(2) [data-by='1']");
await page.select("#text", "1");
const byPointer = await shown();
const chosen = await page.evaluate(() => document.querySelector("#view-reliance .chosen").textContent);
console.log(JSON.stringify({ first, byKeyboard, byPointer, chosen, isWiderThanThePhone, problems, requests }));
await browser.close();
