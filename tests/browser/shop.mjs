// Somebody shops in examples/shop: on a desktop from browsing to the order, then on a phone.
// SOUK is the shop, PAGES the front end, ADMIN an admin's token.

import assert from "node:assert/strict";
import { browse, PHONE } from "./browser.mjs";

const { SOUK, PAGES, ADMIN } = process.env;
const ORIGINS = [SOUK, PAGES].map((url) => new URL(url).origin);
const PASSWORD = "a long enough password";

/** Calls the shop as its admin. */
async function admin(method, path, body) {
  const response = await fetch(SOUK + path, {
    method,
    headers: { Authorization: `Bearer ${ADMIN}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${await response.clone().text()}`);
  return response.json();
}

/** Waits until the number of products fits; returns it. */
async function total(page, fits) {
  for (;;) {
    const text = page.getByText(/^\d+ products?$/);
    const seen = await text.textContent();
    const count = Number.parseInt(seen, 10);
    if (fits(count)) return count;
    await page.waitForFunction((before) =>
      document.querySelector(".row p").textContent !== before, seen);
  }
}

/** Waits until the text of `locator` is `text`. */
const says = (locator, text) => locator.filter({ hasText: text }).first().waitFor();

async function filters(visitor) {
  const { page } = visitor;
  await page.goto(`${PAGES}/`);
  await says(page.getByRole("status"), "340 products");
  await visitor.isAccessible("the product list");
  await visitor.picture("catalog");
  // Two choices, the second before the first is answered.
  await page.evaluate(() => ["books", "coffee"].forEach((name) =>
    document.getElementById(`category=${name}`).click()));
  await says(page.getByRole("status"), /^49 products/);
  await page.getByRole("checkbox", { name: /^Books/ }).uncheck();
  await says(page.getByRole("status"), /^25 products/);
  await page.getByRole("radio", { name: /^\$10.00 to \$24.99/ }).check();
  await page.waitForURL(/category=coffee.*min_price=10.*max_price=24.99/);
  const cheap = await total(page, (found) => found > 0 && found < 25);
  // Its own facet counts without it: other categories can be added.
  await page.getByRole("checkbox", { name: /^Tea/ }).check();
  await page.waitForURL(/category=coffee&category=tea/);
  await total(page, (found) => found > cheap);
  const focused = await page.evaluate(() => document.activeElement.id);
  assert.equal(focused, "category=tea", "the focus stays on the filter");
  await page.getByLabel("Sort by").selectOption("-price");
  await page.waitForURL(/sort=-price/);
  await page.waitForFunction(() => {
    const prices = [...document.querySelectorAll(".card .price")]
      .map(({ textContent }) => Number(textContent.slice(1)));
    return prices.every((price, index) => index === 0 || price <= prices[index - 1]);
  });
  const shown = await page.locator(".card").count();
  if (await page.getByRole("button", { name: "Show more" }).isVisible()) {
    await page.getByRole("button", { name: "Show more" }).click();
    await page.waitForFunction((n) => document.querySelectorAll(".card").length > n, shown);
  }
  const url = page.url();
  await page.locator(".card a").first().click();
  await page.waitForURL(/product/);
  await page.locator(".stock").waitFor();
  await page.goBack();
  await page.getByRole("checkbox", { name: /^Tea/, checked: true }).waitFor();
  assert.equal(page.url(), url, "the way back leads to the same filters");
}

async function search({ page, ...visitor }, picture) {
  const box = page.getByRole("combobox", { name: "Search the shop" });
  await box.pressSequentially("yrigach");
  const option = page.getByRole("option", { name: "Yirgacheffe Washed Beans" });
  await option.waitFor();
  await picture("search");
  await box.press("ArrowDown");
  assert.equal(await option.getAttribute("aria-selected"), "true");
  assert.equal(await box.getAttribute("aria-activedescendant"), await option.getAttribute("id"));
  await box.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Yirgacheffe Washed Beans" }).waitFor();
  await box.fill("sidamo natural");
  await box.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Search for “sidamo natural”" }).waitFor();
  await page.getByRole("link", { name: /^Sidamo Natural Beans/ }).click();
}

/** Has the page read the product again, and `work` done before the answer comes. */
async function lateAnswer(page, id, work) {
  const path = `**/api/products/${id}`;
  const held = Promise.withResolvers();
  const released = Promise.withResolvers();
  await page.route(path, async (route) => {
    const response = await route.fetch();
    held.resolve();
    await released.promise;
    await route.fulfill({ response });
  });
  // The page reads it when the feed is open again.
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await held.promise;
  await work();
  const answered = page.waitForEvent("requestfinished", (found) => found.url().endsWith(`/${id}`));
  released.resolve();
  await answered;
  await page.unroute(path);
  // What the page does with the answer is done.
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
}

/** Follows what is left of a product while the admin sells it elsewhere. */
async function liveStock(visitor) {
  const { page } = visitor;
  await page.getByRole("heading", { level: 1, name: /^Sidamo Natural Beans/ }).waitFor();
  const id = page.url().split("/").pop();
  const stock = page.locator(".stock");
  // The page reads the product again when the feed is open.
  const opened = (request) => request.url().includes("/api/events?");
  if (!visitor.requests.some(opened)) await page.waitForRequest(opened);
  const change = (set) => admin("POST", `/api/products/${id}/stock`, { set, reason: "test" });
  const before = visitor.requests.length;
  await change(7);
  await says(stock, "Only 7 left");
  await change(0);
  await says(stock, "Sold out");
  assert.ok(await page.getByRole("button", { name: "Add to cart" }).isDisabled());
  await change(40);
  await says(stock, "40 in stock");
  await lateAnswer(page, id, () => change(0).then(() => says(stock, "Sold out")));
  assert.equal(await stock.textContent(), "Sold out", "an older answer came after the event");
  const asked = visitor.requests.slice(before).filter((r) => r.url().endsWith(`/${id}`));
  assert.ok(asked.length <= 2, "the stock comes with the events");
  await change(8);
  await says(stock, "Only 8 left");
  await visitor.isAccessible("a product");
  await visitor.picture("product");
}

async function fillCart(visitor) {
  const { page } = visitor;
  await page.getByLabel("Quantity").fill("2");
  await page.getByRole("button", { name: "Add to cart" }).click();
  await says(page.getByRole("status"), "is in your cart");
  await page.getByRole("link", { name: "Cart, 2 items" }).click();
  // More than there is: the line stays as it was.
  visitor.expected.push("status of 409");
  // The page of the product, which may still be there, has a quantity as well.
  const quantity = page.getByRole("spinbutton", { name: "Quantity of " });
  await quantity.fill("50");
  await quantity.blur();
  await says(page.getByRole("status"), "Only 8 can be had.");
  await page.getByRole("link", { name: "Cart, 2 items" }).waitFor();
  visitor.expected.pop();
  await page.reload();
  visitor.expected.push("status of 404");
  await page.getByLabel("Discount code").fill("NOTHING");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByRole("alert").waitFor();
  visitor.expected.pop();
  await page.getByLabel("Discount code").fill("welcome10");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("WELCOME10 applies").waitFor();
  await visitor.isAccessible("the cart");
  await visitor.picture("cart");
}

async function fillGuestCheckout(page) {
  await page.getByRole("link", { name: "Check out" }).click();
  await page.getByLabel("E-mail").fill("guest@example.com");
  await page.getByLabel("Name").fill("A Guest");
  await page.getByLabel("Street and number").fill("1 Side Street");
  await page.getByLabel("Postal code").fill("10115");
  await page.getByLabel("City").fill("Berlin");
  await page.getByLabel("Country").selectOption("DE");
  await page.getByRole("radio", { name: /Parcel/ }).waitFor();
}

/** A guest is asked for an e-mail address, and it is sent with the order. */
async function guestCheckout({ page }) {
  await fillGuestCheckout(page);
  const answer = { status: 409, json: { detail: "Not now.", code: "cart_empty" } };
  let order;
  await page.route("**/api/checkout", (route) => {
    order = route.request().postDataJSON();
    return route.fulfill({ ...answer, headers: { "Access-Control-Allow-Origin": "*" } });
  });
  await page.getByRole("button", { name: "Place the order" }).click();
  await says(page.getByRole("alert"), "Not now.");
  await page.unroute("**/api/checkout");
  assert.equal(order.email, "guest@example.com");
  assert.deepEqual(order.shipping_address, {
    name: "A Guest", line1: "1 Side Street", postal_code: "10115", city: "Berlin", country: "DE",
  });
}

async function register(visitor) {
  const { page } = visitor;
  await page.getByRole("link", { name: "Log in or register instead" }).click();
  const form = page.locator("#register");
  await form.getByLabel("Name").fill("Ada");
  await form.getByLabel("E-mail").fill("ada@example.com");
  await form.getByLabel("Password").fill("password");
  visitor.expected.push("status of 422");
  await form.getByRole("button").click();
  // The shop's own words, at the field.
  await form.getByLabel("Password").and(page.locator("[aria-invalid=true]")).waitFor();
  visitor.expected.pop();
  await visitor.isAccessible("the form to register");
  await form.getByLabel("Password").fill(PASSWORD);
  await form.getByRole("button").click();
  await says(page.getByRole("status"), "What was in your cart is still there.");
  await page.getByRole("link", { name: "Cart, 2 items" }).waitFor();
}

async function checkOut(visitor) {
  const { page } = visitor;
  await page.getByRole("heading", { level: 1, name: "Checkout" }).waitFor();
  assert.equal(await page.getByLabel("E-mail").count(), 0, "a customer is not asked for an e-mail");
  await page.getByLabel("Name").fill("Ada Lovelace");
  await page.getByLabel("Street and number").fill("12 Mint Street");
  await page.getByLabel("Postal code").fill("10001");
  await page.getByLabel("City").fill("New York");
  await page.getByLabel("Country").selectOption("US");
  await page.getByRole("radio", { name: /Parcel/, checked: true }).waitFor();
  await page.getByLabel("State or region").fill("NY");
  await page.getByLabel("Phone").focus();
  await page.getByText("Sales tax, 8.875 %").waitFor();
  await page.getByRole("radio", { name: /Express/ }).check();
  await page.getByText("Shipping: Express").waitFor();
  await visitor.isAccessible("the checkout");
  await page.evaluate(() => scrollTo(0, 0));
  await visitor.picture("checkout");
  const total = await page.locator(".totals .total td").textContent();
  await page.getByRole("button", { name: "Place the order" }).click();
  await says(page.getByRole("status"), "Thank you. Your order is");
  await says(page.locator(".totals .total td"), total);
  await page.getByRole("link", { name: "Cart, 0 items" }).waitFor();
  return page.url().split("/").pop();
}

/** The order's page says that it is paid as soon as it is. */
async function paid(visitor, id) {
  const { page } = visitor;
  await says(page.locator(".badge"), "Waiting for your payment");
  await admin("POST", `/api/orders/${id}/pay`, { reference: "test" });
  await says(page.locator(".badge"), /^Paid$/);
  await visitor.isAccessible("an order");
  await visitor.picture("order");
  await page.getByRole("link", { name: "Orders" }).click();
  await page.locator("tr", { hasText: "Paid" }).getByRole("link").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1);
  await visitor.isAccessible("the orders");
}

/** An access token that has ended is replaced without a word; a session that has ended is not. */
async function sessions(visitor) {
  const { page } = visitor;
  visitor.expected.push("status of 401");
  const spoil = (change) => page.evaluate((changed) => {
    const kept = JSON.parse(localStorage.getItem("souk-session"));
    localStorage.setItem("souk-session", JSON.stringify({ ...kept, ...changed }));
  }, change);
  await spoil({ token: "no.longer.valid" });
  await page.reload();
  await page.locator("tbody tr").first().waitFor();
  await page.goto(`${PAGES}/#/?q=haraaz`);
  await page.locator(".card a").first().click();
  await page.getByRole("button", { name: "Add to cart" }).click();
  await page.getByRole("link", { name: "Cart, 1 item" }).waitFor();
  await page.getByRole("link", { name: "Ada" }).click();
  await page.getByRole("button", { name: "Log out" }).click();
  await says(page.getByRole("status"), "You are logged out.");
  await page.getByRole("link", { name: "Cart, 0 items" }).waitFor();
  await page.goto(`${PAGES}/#/orders`);
  await page.getByText("to see them.").waitFor();
}

/** On a phone: a guest's cart is united with that of the customer, who has left one item in it. */
async function phone(visitor) {
  const { page } = visitor;
  await page.goto(`${PAGES}/`);
  await says(page.getByRole("status"), "340 products");
  await visitor.fits("the product list");
  await visitor.picture("phone-catalog");
  assert.ok(!await page.getByRole("checkbox", { name: /^Coffee/ }).isVisible());
  await page.getByText("Filters", { exact: true }).click();
  await page.getByRole("checkbox", { name: /^Coffee/ }).check();
  await says(page.getByRole("status"), /^25 products/);
  await visitor.fits("the filters");
  await page.getByText("Filters", { exact: true }).click();
  await page.getByRole("link", { name: "Haraaz Mountain Mocha" }).tap();
  await page.getByRole("button", { name: "Add to cart" }).tap();
  await page.getByRole("link", { name: "Cart, 1 item" }).waitFor();
  await visitor.fits("a product");
  await visitor.isAccessible("a product on a phone");
  await visitor.picture("phone-product");
  await page.getByRole("link", { name: "Log in" }).tap();
  await page.locator("#login").getByLabel("E-mail").fill("ada@example.com");
  await page.locator("#login").getByLabel("Password").fill("not the password");
  visitor.expected.push("status of 401");
  await page.locator("#login").getByRole("button").tap();
  await page.getByRole("alert").waitFor();
  visitor.expected.pop();
  await page.locator("#login").getByLabel("Password").fill(PASSWORD);
  await page.locator("#login").getByRole("button").tap();
  await says(page.getByRole("status"), "What was in your cart is still there.");
  for (const name of ["Cart, 2 items", "Orders"]) {
    await page.getByRole("link", { name }).tap();
    await page.locator("table.lines").waitFor();
    await visitor.fits(name);
    await visitor.isAccessible(`${name} on a phone`);
  }
}

/** A guest orders, sees the order paid, and still has it after registering. */
async function guestOrder(visitor) {
  const { page } = visitor;
  await page.goto(`${PAGES}/#/?q=alum+block`);
  await page.locator(".card a").first().click();
  await page.getByRole("button", { name: "Add to cart" }).click();
  await page.getByRole("link", { name: "Cart, 1 item" }).click();
  await fillGuestCheckout(page);
  await page.getByLabel("The bill goes to another address").check();
  const bill = page.getByRole("group", { name: "Billing address" });
  await bill.getByLabel("Name").fill("A Company");
  await bill.getByLabel("Street and number").fill("2 Main Street");
  await bill.getByLabel("Postal code").fill("20095");
  await bill.getByLabel("City").fill("Hamburg");
  await bill.getByLabel("Country").selectOption("DE");
  await visitor.isAccessible("a guest's checkout");
  await page.getByRole("button", { name: "Place the order" }).click();
  await says(page.getByRole("status"), "Thank you. Your order is");
  const id = page.url().split("/").pop();
  await says(page.locator(".badge"), "Waiting for your payment");
  await admin("POST", `/api/orders/${id}/pay`, { reference: "test" });
  await says(page.locator(".badge"), /^Paid$/);
  await page.getByRole("link", { name: "Log in" }).click();
  const form = page.locator("#register");
  await form.getByLabel("Name").fill("Grace");
  await form.getByLabel("E-mail").fill("guest@example.com");
  await form.getByLabel("Password").fill(PASSWORD);
  await form.getByRole("button").click();
  await page.getByRole("link", { name: "Grace" }).waitFor();
  await page.getByRole("link", { name: "Orders" }).click();
  await page.locator("tr", { hasText: "Paid" }).getByRole("link").waitFor();
}

await browse(ORIGINS, async (visitor) => {
  await filters(visitor);
  await search(visitor, (name) => visitor.picture(name));
  await liveStock(visitor);
  await fillCart(visitor);
  visitor.expected.push("status of 409");
  await guestCheckout(visitor);
  visitor.expected.pop();
  await register(visitor);
  await paid(visitor, await checkOut(visitor));
  await sessions(visitor);
});
const { components } = await (await fetch(`${SOUK}/openapi.json`)).json();
if (components.schemas.CheckoutRequest.properties.email) await browse(ORIGINS, guestOrder);
await browse(ORIGINS, phone, { viewport: PHONE, isMobile: true, hasTouch: true });
console.log("the shop front works");
