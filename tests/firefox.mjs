// The playground in Firefox, driven by WebDriver BiDi: draws, steps, goes back, and prints what it
// saw as JSON. Called by test_playground.py: node firefox.mjs PACKAGES FIREFOX ADDRESS STROKES

import { createRequire } from "node:module";

const [packages, executablePath, address, strokes] = process.argv.slice(2);
const puppeteer = createRequire(`${packages}/package.json`)("puppeteer-core");

const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath,
  headless: true,
  // Pages get noise for what they read off a canvas, as in Tor, LibreWolf and Mullvad.
  // Frames come as soon as they are asked for.
  extraPrefsFirefox: { "privacy.resistFingerprinting": true, "layout.frame_rate": 0 },
});
const seen = { complaints: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("console", (message) => seen.complaints.push(message.text()));
  const settle = () =>
    page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
    );
  const look = () =>
    page.evaluate(() => ({
      shares: [...document.querySelectorAll("#bars .share")].map((it) => it.textContent),
      caption: document.getElementById("caption").textContent,
      away: document.getElementById("away").hidden ? "" : document.getElementById("away-text").textContent,
      label: document.querySelector("#labels :checked")?.value ?? "",
      hash: location.hash,
      picked: document.querySelector("#explanation h3").textContent,
    }));
  await page.goto(address);
  await page.waitForSelector("#bars .best");

  const pad = await (await page.$("#pad")).boundingBox();
  const at = ([x, y]) => [pad.x + x * pad.width, pad.y + y * pad.height];
  for (const stroke of JSON.parse(strokes)) {
    await page.mouse.move(...at(stroke[0]));
    await page.mouse.down();
    for (const point of stroke.slice(1)) await page.mouse.move(...at(point));
    await page.mouse.up();
  }
  await settle();
  await new Promise((done) => setTimeout(done, 350)); // the address follows a moment later
  seen.drawn = await look();

  await page.evaluate(() => document.querySelector("#labels input[value='8']").click());
  await page.evaluate(() => document.getElementById("ten").click());
  await settle();
  seen.taught = await look();
  await page.keyboard.down("Control");
  await page.keyboard.press("z");
  await page.keyboard.up("Control");
  await settle();
  seen.undone = await look();

  await page.evaluate(() => document.querySelector("#mistakes input").click());
  await settle();
  seen.taken = await look();
  await page.evaluate(() => history.back());
  await page.waitForFunction((hash) => location.hash === hash, {}, seen.undone.hash);
  await settle();
  seen.back = await look();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
