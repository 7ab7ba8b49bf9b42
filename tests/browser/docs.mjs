// The pages that describe the API and the events of the shop at SOUK, whose name is NAME. ADMIN is
// an admin's token; EMAIL and PASSWORD are a customer's.

import assert from "node:assert/strict";
import { browse, PHONE } from "./browser.mjs";

const { SOUK, NAME, ADMIN, EMAIL, PASSWORD } = process.env;

/** Opens an operation of Swagger UI. */
async function open(page, tag, operation) {
  const block = page.locator(`#operations-${tag}-${operation}`);
  await block.locator("button.opblock-summary-control").click();
  await block.locator("button.execute").waitFor();
  return block;
}

/** Sends the request of an operation; returns the body of the answer, whose status must be this. */
async function execute(page, block, status) {
  const [response] = await Promise.all([
    page.waitForResponse((found) => found.request().method() !== "OPTIONS"),
    block.locator("button.execute").click(),
  ]);
  assert.equal(response.status(), status, response.url());
  await block.locator(".live-responses-table .response-col_status")
    .filter({ hasText: String(status) }).first().waitFor();
  return response.json();
}

async function authorize(page, token) {
  await page.getByRole("button", { name: "Authorize", exact: true }).first().click();
  const dialog = page.locator(".modal-ux");
  const logOut = dialog.getByRole("button", { name: /Remove authorization|Logout/ });
  if (await logOut.count()) await logOut.click();
  if (token) {
    await dialog.locator("input").fill(token);
    await dialog.getByRole("button", { name: /Apply .*|Authorize/ }).first().click();
  }
  await dialog.getByRole("button", { name: "Close", exact: true }).click();
}

await browse([new URL(SOUK).origin], async (visitor) => {
  const { page } = visitor;
  await page.goto(`${SOUK}/docs`);
  await page.getByRole("heading", { name: new RegExp(`^${NAME}`) }).waitFor();
  assert.equal(await page.title(), `${NAME} API`);
  const first = await page.locator(".opblock").first().boundingBox();
  assert.ok(first.y + first.height < page.viewportSize().height, `an operation at ${first.y}`);
  const codes = page.locator(".info details");
  assert.ok(!await codes.locator("table").isVisible());
  await codes.locator("summary").click();
  await codes.getByRole("cell", { name: "insufficient_stock", exact: true }).waitFor();
  await codes.locator("summary").click();

  // Without a token; then with that of a login, without one more step; then with one by hand.
  visitor.expected.push("status of 401");
  const me = await open(page, "Auth", "get_account");
  assert.equal((await execute(page, me, 401)).code, "unauthenticated");
  const login = await open(page, "Auth", "log_in");
  await login.locator("textarea").fill(JSON.stringify({ email: EMAIL, password: PASSWORD }));
  await execute(page, login, 200);
  assert.equal((await execute(page, me, 200)).email, EMAIL);
  await authorize(page, null);
  await execute(page, me, 401);
  await authorize(page, ADMIN);
  assert.equal((await execute(page, me, 200)).role, "admin");

  // Not only reads: a change with a body and a path.
  const create = await open(page, "Products", "create_product");
  const product = { name: "Mint tea", description: "", price: 4.5, stock: 10 };
  await create.locator("textarea").fill(JSON.stringify(product));
  const { id } = await execute(page, create, 201);
  const stock = await open(page, "Stock", "get_stock");
  await stock.locator("tr[data-param-name=id] input").fill(id);
  assert.equal((await execute(page, stock, 200)).available, 10);
  const documents = page.getByRole("navigation", { name: "Documents" });
  await documents.getByRole("link", { name: "Events" }).click();
  await page.getByRole("heading", { level: 1, name: `${NAME} events` }).waitFor();
});

await browse([new URL(SOUK).origin], async (visitor) => {
  const { page } = visitor;
  const api = await (await fetch(`${SOUK}/asyncapi.json`)).json();
  const names = Object.keys(api.components.messages).toSorted();
  await page.goto(`${SOUK}/docs/events`);
  await page.getByRole("heading", { level: 1, name: `${NAME} events` }).waitFor();
  assert.equal(await page.title(), `${NAME} events`);
  const shown = page.locator("details.message > summary > code");
  assert.deepEqual((await shown.allTextContents()).toSorted(), names);
  await visitor.isAccessible("the events");
  await page.getByLabel("Filter").fill("was PAID");
  assert.deepEqual(await page.locator("details:visible summary code").allTextContents(),
    ["order.paid"]);
  await page.getByLabel("Filter").fill("");
  // Each message can be opened, has all of its members, and an example with them.
  const opened = await page.evaluate(() => Promise.all(
    [...document.querySelectorAll("details.message")].map((details) => new Promise((resolve) => {
      details.addEventListener("toggle", () => resolve({
        name: details.id,
        members: [...details.querySelector("table").querySelectorAll("td:first-child code")]
          .map(({ textContent }) => textContent),
        example: details.querySelector("pre")?.textContent,
      }));
      details.open = true;
    }))));
  assert.equal(opened.length, names.length);
  for (const { name, members, example } of opened) {
    const { payload } = api.components.messages[name];
    for (const member of Object.keys(payload.properties ?? {})) {
      assert.ok(members.includes(member), `${name}: ${member}`);
    }
    if (payload.properties?.type) {
      assert.equal(JSON.parse(example).type, name);
      assert.deepEqual(payload.required.filter((member) => !(member in JSON.parse(example))), []);
    }
  }
  await page.goto("about:blank");
  await page.goto(`${SOUK}/docs/events#inventory.stock.changed`);
  await page.locator("details[open]", { hasText: "data.available" }).waitFor();
  assert.equal(await page.locator("details[open]").count(), 1);
  await visitor.isAccessible("the members of a message");
  await page.setViewportSize(PHONE);
  await visitor.fits("the events");
});
console.log("the documents can be read and tried");
