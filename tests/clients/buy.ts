// Buys something with the client that openapi-typescript makes of the OpenAPI document.
// Takes SOUK, EMAIL and PASSWORD (an admin's) from the environment, and prints the order's id.

import assert from "node:assert/strict";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Product = components["schemas"]["ProductResponse"];
type Problem = components["schemas"]["ProblemDetails"];
type Status = components["schemas"]["OrderStatus"];

const { SOUK: baseUrl, EMAIL: email = "", PASSWORD: password = "" } = process.env;
const souk = createClient<paths>({ baseUrl });

/** What an operation answered, which must not be a problem. */
function good<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  const { data, error, response } = answer;
  assert(data !== undefined, `${response.status} ${response.url}: ${JSON.stringify(error)}`);
  return data;
}

const authorized = (token: string) => ({ Authorization: `Bearer ${token}` });
const etag = (response: Response) => response.headers.get("ETag") ?? "";

// An admin puts a product into the catalog.
const login = good(await souk.POST("/api/auth/login", { body: { email, password } }));
const admin = authorized(login.token);
const created = await souk.POST("/api/products", {
  headers: admin,
  params: { header: { "Idempotency-Key": "create" } },
  body: {
    name: "Mint tea",
    description: "Loose leaves",
    price: 4.5,
    stock: 40,
    sku: "TS-1",
    category: "tea",
    tags: ["green", "loose"],
    attributes: { organic: true, weight_grams: 100, origin: "Morocco" },
  },
});
const tea: Product = good(created);
const organic: string | number | boolean | undefined = tea.attributes["organic"];
assert.equal(organic, true);
assert.equal(created.response.headers.get("Location"), `/api/products/${tea.id}`);

const imported = await souk.POST("/api/products/import", {
  headers: { ...admin, "Content-Type": "text/csv" },
  body: "sku,name,price,stock\nTS-2,Black tea,3.25,10\n",
  bodySerializer: (file: string) => file,
});
assert.equal(good(imported).created, 1);

// A customer finds it.
const page = good(
  await souk.GET("/api/products", {
    params: { query: { q: "tea", sort: "-price", in_stock: true, limit: 10 } },
  }),
);
assert.deepEqual(page.items.map((item) => item.sku), ["TS-1", "TS-2"]);
assert.equal(page.next_cursor, null);
assert.deepEqual(page.facets.category, [{ value: "tea", count: 1 }]);
const either = good(
  await souk.GET("/api/products", { params: { query: { category: ["tea", "coffee"] } } }),
);
assert.deepEqual(either.items.map((item) => item.sku), ["TS-1"]);
// @ts-expect-error There is no such order of a search.
const unknown = await souk.GET("/api/products", { params: { query: { sort: "cheapest" } } });
assert.equal((unknown.error as Problem).code, "validation_failed");

// The customer puts it into a cart.
const account = good(
  await souk.POST("/api/auth/register", {
    body: { email: "ada.ts@example.com", password: "correct horse battery", name: "Ada" },
  }),
);
assert.equal(account.user.role, "customer");
const ada = authorized(account.token);
const added = await souk.POST("/api/cart/add", {
  headers: ada,
  body: { product_id: tea.id, quantity: 2 },
});
assert.equal(good(added).item_count, 2);
const updated = await souk.PUT("/api/cart/update", {
  headers: ada,
  params: { header: { "If-Match": etag(added.response) } },
  body: { product_id: tea.id, quantity: 3 },
});
const cart = good(updated);
assert.equal(cart.total_amount, 13.5);
const stale = await souk.DELETE("/api/cart", {
  headers: ada,
  params: { header: { "If-Match": etag(added.response) } },
});
assert.equal(stale.error?.code, "version_mismatch");
const same = await souk.GET("/api/cart", {
  headers: ada,
  params: { header: { "If-None-Match": etag(updated.response) } },
});
assert.equal(same.response.status, 304);

// The customer buys it, once.
const checkout = () =>
  souk.POST("/api/checkout", {
    headers: ada,
    params: { header: { "Idempotency-Key": "checkout" } },
    body: { expected_total: cart.total_amount, payment_method: "manual" },
  });
const order = good(await checkout());
const again = await checkout();
assert.equal(good(again).id, order.id);
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");
const empty = await souk.POST("/api/checkout", {
  headers: ada,
  params: { header: { "Idempotency-Key": "another" } },
});
assert.equal(empty.error?.code, "cart_empty");

// The admin confirms the payment, and the customer reads the order.
const path = { id: order.id };
good(
  await souk.POST("/api/orders/{id}/pay", {
    headers: admin,
    params: { path },
    body: { reference: "TRANSFER-1" },
  }),
);
const read = good(await souk.GET("/api/orders/{id}", { headers: ada, params: { path } }));
const paid: Status = "paid";
assert.equal(read.status, paid);
assert.equal(read.payment.reference, "TRANSFER-1");
const orders = good(await souk.GET("/api/orders", { headers: ada }));
assert.deepEqual(orders.items, [read]);

console.log(order.id);
