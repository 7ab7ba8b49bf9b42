/** The product list with its filters. The address of the page says which ones are chosen. */
import { call } from "./api.js";
import { $, debounce, h, money, picture, words } from "./dom.js";

const SORTS = {
  relevance: "Best match", price: "Price, low to high", "-price": "Price, high to low",
  name: "Name", newest: "Newest",
};
const ATTRIBUTES = 3;
const VALUES = 8;
const wide = matchMedia("(min-width: 52rem)");

/** A product's card. */
export function card({ id, name, price, currency, stock, ...rest }) {
  return h("li", { class: "card" },
    picture({ name, ...rest }),
    h("a", { href: `#/product/${id}` }, name),
    h("p", { class: "price" }, money(price, currency)),
    stock === 0 && h("p", { class: "out" }, "Sold out"));
}

const mostCommon = (counts, isChosen) => counts
  .toSorted((a, b) => isChosen(b.value) - isChosen(a.value) || b.count - a.count)
  .slice(0, VALUES);

/** A group of filter values; `type` is checkbox for any of them, radio for one. */
function group(title, type, options, isOpen) {
  const rows = options.map(({ name, value, label, count, checked }) =>
    h("label", { class: "choice" },
      h("input", { type, name, value, checked, id: `${name}=${value}` }),
      h("span", {}, label),
      count != null && h("span", { class: "count" }, count)));
  return h("fieldset", {}, h("legend", {}, title),
    isOpen ? rows : h("details", { open: options.some(({ checked }) => checked) },
      h("summary", {}, `Choose ${title.toLowerCase()}`), rows));
}

function labels(title, name, counts, query, isOpen = false) {
  const isChosen = (value) => query.has(name, String(value));
  const shown = isOpen ? counts : mostCommon(counts, isChosen);
  return group(title, "checkbox", shown.map(({ value, count }) => ({
    name, value, count, checked: isChosen(value), label: words(String(value)),
  })), isOpen);
}

function filters({ category, tag, price, attributes }, query, currency) {
  const range = `${query.get("min_price") ?? ""}-${query.get("max_price") ?? ""}`;
  const prices = price.map(({ from, to, count }) => ({
    name: "price", value: `${from}-${to}`, count, checked: range === `${from}-${to}`,
    label: `${money(from, currency)} to ${money(to, currency)}`,
  }));
  const common = Object.entries(attributes)
    .map(([name, counts]) => [name, counts, counts.reduce((sum, { count }) => sum + count, 0)])
    .toSorted(([a, , x], [b, , y]) => query.has(`attr.${b}`) - query.has(`attr.${a}`) || y - x);
  return [
    labels("Category", "category", category, query, true),
    group("Price", "radio", [
      { name: "price", value: "-", label: "Any price", checked: range === "-" }, ...prices,
    ], true),
    h("label", { class: "choice" },
      h("input", {
        type: "checkbox", name: "in_stock", value: "true", id: "in_stock",
        checked: query.has("in_stock"),
      }), h("span", {}, "In stock only")),
    labels("Tag", "tag", tag, query),
    ...common.slice(0, ATTRIBUTES)
      .map(([name, counts]) => labels(words(name), `attr.${name}`, counts, query)),
  ];
}

/** The parameters of the search that the form says. */
function chosen(form, q) {
  const query = new URLSearchParams(q ? { q } : {});
  for (const [name, value] of new FormData(form)) {
    if (name === "price") {
      const [from, to] = value.split("-");
      if (from) query.set("min_price", from);
      if (to) query.set("max_price", to);
    } else if (name !== "sort" || value !== "relevance") {
      query.append(name, value);
    }
  }
  return query;
}

export async function catalog({ query }) {
  const q = query.get("q");
  // A list without items does not tell it.
  let currency = "USD";
  let cursor, request;
  const list = h("ul", { class: "grid" });
  const total = h("p", { role: "status" });
  const facets = h("div", {});
  const showMore = () => load(true);
  const more = h("button", { type: "button", class: "quiet", click: showMore }, "Show more");
  const sort = h("select", { name: "sort" }, Object.entries(SORTS).map(([value, label]) =>
    h("option", { value, selected: query.get("sort") === value }, label)));

  async function load(isMore = false) {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const search = new URLSearchParams(query);
    search.set("limit", 24);
    if (isMore) search.set("cursor", cursor);
    const page = await call("GET", `/api/products?${search}`, null, { signal });
    const cards = page.items.map(card);
    if (isMore) list.append(...cards);
    else list.replaceChildren(...cards);
    if (isMore) cards[0]?.querySelector("a").focus();
    cursor = page.next_cursor;
    more.hidden = !cursor;
    total.textContent = `${page.total} ${page.total === 1 ? "product" : "products"}`;
    // The focus stays on the choice that was made.
    const focused = document.activeElement?.id;
    currency = page.items[0]?.currency ?? currency;
    if (!isMore) facets.replaceChildren(...filters(page.facets, query, currency));
    if (focused?.includes("=") || focused === "in_stock") $(focused)?.focus();
  }

  const reload = debounce(() =>
    load().catch((error) => { if (error.name !== "AbortError") throw error; }), 50);
  // At once: an answer that comes meanwhile shows the filters anew.
  const refresh = () => {
    query = chosen(form, q);
    history.replaceState(null, "", `#/?${query}`);
    reload();
  };
  const submit = (event) => event.preventDefault();
  const form = h("form", { class: "catalog", change: refresh, submit },
    h("details", { class: "filters", open: wide.matches },
      h("summary", {}, "Filters"), facets),
    h("section", { "aria-label": "Products" },
      h("div", { class: "row" }, total, h("label", { class: "sort" }, "Sort by ", sort)),
      list, more));
  await load();
  return {
    title: q ? `Search for “${q}”` : "All products",
    content: [form],
  };
}
