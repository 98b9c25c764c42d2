// A new page of Chromium, as wide as a phone.
import { createRequire } from "node:module";

/** Returns the browser, the page, and the errors that the page reports. */
export async function openChromium(modules, executablePath) {
  const require = createRequire(`${modules}/`);
  const { default: puppeteer } = await import(require.resolve("puppeteer-core"));
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
  const page = await browser.newPage(), problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  await page.setViewport({ width: 400, height: 800 });
  return { browser, page, problems };
}
