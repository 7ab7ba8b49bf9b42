/** A product's page. What is left of it is told as it changes. */
import { call, follow } from "./api.js";
import { addToCart } from "./cart.js";
import { h, money, notify, picture, words } from "./dom.js";
import { field, form } from "./forms.js";

const stockText = (stock) =>
  stock === 0 ? "Sold out" : stock <= 10 ? `Only ${stock} left` : `${stock} in stock`;

const filterLink = (name, value) =>
  h("a", { href: `#/?${new URLSearchParams({ [name]: value })}` }, words(value));

export async function product({ id }) {
  const { name, description, price, currency, category, tags, attributes, ...rest } =
    await call("GET", `/api/products/${id}`);
  const amount = h("p", { class: "price" }, money(price, currency));
  const stock = h("p", { class: "stock", role: "status" });
  const quantity = field("Quantity", "quantity", {
    type: "number", min: 1, max: rest.purchase_limit ?? 999, value: 1, required: true,
  });
  const buy = h("button", {}, "Add to cart");

  function showStock(available) {
    stock.textContent = stockText(available);
    stock.dataset.level = available === 0 ? "none" : available <= 10 ? "low" : "high";
    buy.disabled = available === 0;
  }
  showStock(rest.stock);

  // An answer may be older than an event that has come before it.
  let events = 0;
  async function readStock() {
    const before = events;
    const { stock: available } = await call("GET", `/api/products/${id}`);
    if (events === before) showStock(available);
  }
  const leave = follow({
    types: ["inventory.stock.changed", "catalog.product.updated"],
    subject: id,
    onOpen: readStock,
    onEvent: ({ type, data }) => {
      events++;
      if (type === "inventory.stock.changed") showStock(data.available);
      else amount.textContent = money(data.price, currency);
    },
  });
  const add = async (values) => {
    await addToCart(id, Number(values.quantity));
    notify(`${name} is in your cart.`);
  };
  return {
    title: name,
    leave,
    content: [h("article", { class: "product" },
      picture({ name, category, ...rest }),
      h("div", {},
        amount, stock,
        form({ class: "buy" }, add, quantity, buy),
        h("p", {}, description),
        h("dl", {}, Object.entries(attributes).flatMap(([key, value]) => [
          h("dt", {}, words(key)),
          h("dd", {}, value === true ? "Yes" : value === false ? "No" : String(value)),
        ])),
        h("p", { class: "tags" },
          category && filterLink("category", category),
          tags.map((tag) => filterLink("tag", tag)))))],
  };
}
