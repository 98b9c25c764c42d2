// Opens a page in a narrow Chromium, light and dark, and prints what it shows as JSON.
//
//     node open.mjs NODE_MODULES CHROMIUM ADDRESS
import { openChromium } from "./chromium.mjs";

const [modules, executablePath, address] = process.argv.slice(2);
const { browser, page, problems } = await openChromium(modules, executablePath);
const elsewhere = [], themes = {};
page.on("console", (message) => problems.push(message.text()));
page.on("request", (request) => request.url() === address || elsewhere.push(request.url()));
for (const value of ["light", "dark"]) {
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
  await page.goto(address);
  themes[value] = await page.evaluate(() => ({
    background: getComputedStyle(document.body).backgroundColor,
    texts: [...document.querySelectorAll(".words")].map((words) => words.textContent),
    colors: [...document.querySelectorAll(".words span")].map((word) => getComputedStyle(word).backgroundColor),
    isWiderThanThePhone: document.documentElement.scrollWidth > window.innerWidth,
  }));
}
console.log(JSON.stringify({ themes, problems, elsewhere }));
await browser.close();
