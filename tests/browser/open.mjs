// Opens a page in a narrow Chromium, light and dark, and prints what it shows as JSON.
//
//     node open.mjs NODE_MODULES CHROMIUM ADDRESS
import { createRequire } from "node:module";

const [modules, executablePath, address] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { default: puppeteer } = await import(require.resolve("puppeteer-core"));
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const problems = [], elsewhere = [], themes = {};
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => problems.push(message.text()));
page.on("request", (request) => request.url() === address || elsewhere.push(request.url()));
await page.setViewport({ width: 400, height: 800 });
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
