/** The search box: suggestions while somebody types, with the keyboard or a finger. */
import { call } from "./api.js";
import { $, debounce, h } from "./dom.js";

const input = $("query");
const list = $("suggestions");
let request;

/** Nothing that was asked for changes the list any more. */
function stop() {
  suggest.cancel();
  request?.abort();
}

function close() {
  stop();
  list.hidden = true;
  input.ariaExpanded = "false";
  input.removeAttribute("aria-activedescendant");
}

function choose(option) {
  close();
  input.value = "";
  location.hash = `#/product/${option.dataset.product}`;
}

function show(items) {
  list.replaceChildren(...items.map(({ id, name }, index) =>
    h("li", { id: `option-${index}`, role: "option", "data-product": id }, name)));
  list.hidden = items.length === 0;
  input.ariaExpanded = String(items.length > 0);
  input.removeAttribute("aria-activedescendant");
}

const suggest = debounce(async () => {
  request?.abort();
  const q = input.value.trim();
  if (!q || document.activeElement !== input) return close();
  request = new AbortController();
  const { signal } = request;
  try {
    const query = new URLSearchParams({ q, limit: 8 });
    show((await call("GET", `/api/products/suggest?${query}`, null, { signal })).items);
  } catch {
    // A later request has taken its place, or search works without suggestions.
  }
});

function move(step) {
  stop();
  const options = [...list.children];
  const at = options.findIndex((option) => option.ariaSelected === "true");
  const next = (at + step + options.length + (at < 0 && step < 0 ? 1 : 0)) % options.length;
  options.forEach((option, index) => { option.ariaSelected = String(index === next); });
  input.setAttribute("aria-activedescendant", options[next].id);
  options[next].scrollIntoView({ block: "nearest" });
}

input.addEventListener("input", suggest);
input.addEventListener("blur", close);
input.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || list.hidden) return;
  event.preventDefault();
  move(step);
});
// Before the input loses the focus, which closes the list.
list.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  const option = event.target.closest("[role=option]");
  if (option) choose(option);
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const selected = list.hidden ? null : list.querySelector("[aria-selected=true]");
  if (selected) return choose(selected);
  close();
  location.hash = `#/?${new URLSearchParams({ q: input.value.trim() })}`;
});
