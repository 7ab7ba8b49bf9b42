/** The cart: what is in it, what it comes to, and the count in the header. */
import { call, needCart, session } from "./api.js";
import { $, h, money, notify } from "./dom.js";
import { field, form } from "./forms.js";

export const emptyCart = { items: [], item_count: 0, codes: [], discounts: [], taxes: [] };

function showCount({ item_count: count }) {
  $("count").textContent = count;
  $("count").parentElement.ariaLabel = `Cart, ${count} ${count === 1 ? "item" : "items"}`;
}

async function change(method, path, body) {
  const cart = await call(method, path, body);
  showCount(cart);
  return cart;
}

export async function readCart() {
  const cart = session() ? await call("GET", "/api/cart") : emptyCart;
  showCount(cart);
  return cart;
}

export async function addToCart(product_id, quantity) {
  await needCart();
  return change("POST", "/api/cart/add", { product_id, quantity });
}

const REASONS = {
  min_subtotal: "your goods cost too little for it", no_eligible_items: "it is for other products",
  not_best: "another discount is better", expired: "it has expired", not_started: "it starts later",
  usage_limit: "it is used up", per_customer_limit: "you have used it", inactive: "it has ended",
};

/** What a cart or an order comes to. */
export function totals({ currency, subtotal, discounts, shipping, taxes, total_amount }) {
  const row = (name, amount, attributes = {}) =>
    h("tr", attributes, h("th", { scope: "row" }, name), h("td", {}, money(amount, currency)));
  const percent = (rate) => `${Number((rate * 100).toFixed(4))} %`;
  return h("table", { class: "totals" }, h("tbody", {},
    row("Goods", subtotal),
    discounts.map(({ name, amount }) => row(name, -amount)),
    shipping && row(`Shipping: ${shipping.name}`, shipping.amount),
    taxes.map(({ name, rate, amount, included }) =>
      row(`${included ? "Including " : ""}${name}, ${percent(rate)}`, amount)),
    row("Total", total_amount, { class: "total" })));
}

/** The discount codes of the cart, and a form for another. `onChange` gets the new cart. */
export function discountCodes({ codes }, onChange) {
  const remove = async (code) =>
    onChange(await change("DELETE", `/api/cart/codes/${encodeURIComponent(code)}`));
  const add = async ({ code }) => onChange(await change("POST", "/api/cart/codes", { code }));
  return [
    h("ul", { class: "codes" }, codes.map(({ code, applied, reason }) => h("li", {},
      h("strong", {}, code),
      applied ? " applies " : ` does not apply: ${REASONS[reason] ?? reason} `,
      h("button", { type: "button", class: "quiet", click: () => remove(code) },
        `Remove ${code}`)))),
    form({ class: "line" }, add,
      field("Discount code", "code", { autocomplete: "off", maxlength: 64, required: true }),
      h("button", { class: "quiet" }, "Apply")),
  ];
}

function line(item, currency, set) {
  const { product_id, name, quantity, total, available, price_changed: price } = item;
  const input = h("input", {
    type: "number", min: 0, max: 999, value: quantity, "aria-label": `Quantity of ${name}`,
    change: ({ target }) => set(product_id, Number(target.value)),
  });
  return h("tr", {},
    h("td", {}, h("a", { href: `#/product/${product_id}` }, name),
      available < quantity && h("p", { class: "out" },
        available === 0 ? "Sold out" : `Only ${available} left`),
      price && h("p", { class: "out" },
        `The price was ${money(price.was, currency)} and is ${money(price.now, currency)}`)),
    h("td", {}, input),
    h("td", { class: "amount" }, money(total, currency)),
    h("td", {}, h("button", {
      type: "button", class: "quiet", "aria-label": `Remove ${name}`,
      click: () => set(product_id, 0),
    }, "Remove")));
}

export async function cartPage() {
  const place = h("div", {});
  const set = async (product_id, quantity) => {
    try {
      show(await change("PUT", "/api/cart/update", { product_id, quantity }));
    } catch (problem) {
      const [short] = problem.lines ?? [];
      notify(short ? `Only ${short.available} can be had.` : problem.message, "problem");
      show(await readCart());
    }
  };
  function show(cart) {
    const { items, currency } = cart;
    if (items.length === 0) {
      const all = h("a", { href: "#/" }, "See all products");
      place.replaceChildren(h("p", {}, "Your cart is empty. ", all));
      return;
    }
    place.replaceChildren(h("div", { class: "columns" },
      h("table", { class: "lines" },
        h("thead", {}, h("tr", {}, ["Product", "Quantity", "Price", ""].map((name) =>
          h(name ? "th" : "td", name ? { scope: "col" } : {}, name)))),
        h("tbody", {}, items.map((item) => line(item, currency, set)))),
      h("aside", { "aria-label": "Summary" },
        totals(cart), discountCodes(cart, show),
        h("a", { class: "button", href: "#/checkout" }, "Check out"))));
  }
  show(await readCart());
  return { title: "Your cart", content: [place] };
}
