/** Which page the address names, and what all pages have. */
import { account } from "./account.js";
import { isCustomer, Problem, session } from "./api.js";
import { cartPage, readCart } from "./cart.js";
import { catalog } from "./catalog.js";
import { checkout } from "./checkout.js";
import { $, h, notify } from "./dom.js";
import { order, orders } from "./orders.js";
import { product } from "./product.js";
import "./search.js";

const PAGES = [
  [/^\/$/, catalog],
  [/^\/product\/(?<id>[\w-]+)$/, product],
  [/^\/cart$/, cartPage],
  [/^\/checkout$/, checkout],
  [/^\/account$/, account],
  [/^\/orders$/, orders],
  [/^\/orders\/(?<id>[\w-]+)$/, order],
];

let current = 0;
let leave = () => {};

async function load(path, query) {
  for (const [pattern, page] of PAGES) {
    const match = pattern.exec(path);
    if (match) return page({ query: new URLSearchParams(query), ...match.groups });
  }
  return { title: "There is no such page", content: [h("a", { href: "#/" }, "See all products")] };
}

function pageOf(problem) {
  if (!(problem instanceof Problem)) throw problem;
  if (problem.status === 401) {
    location.replace(`#/account?next=${encodeURIComponent(location.hash.slice(1))}`);
  }
  return {
    title: problem.status === 404 ? "There is no such page" : "Something went wrong",
    content: [h("p", {}, problem.message)],
  };
}

async function show(isFirst = false) {
  const mine = ++current;
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  $("main").ariaBusy = "true";
  const page = await load(path, query).catch(pageOf);
  // Somebody has gone on meanwhile.
  if (mine !== current) return page.leave?.();
  leave();
  leave = page.leave ?? (() => {});
  $("main").replaceChildren(h("h1", { tabindex: -1 }, page.title), ...page.content.filter(Boolean));
  $("main").ariaBusy = "false";
  $("query").value = new URLSearchParams(query).get("q") ?? "";
  document.title = `${page.title} · Souk`;
  if (isFirst) return;
  scrollTo(0, 0);
  $("main").querySelector("h1").focus({ preventScroll: true });
}

function showCaller() {
  $("account").textContent = isCustomer() ? session().user.name : "Log in";
}

addEventListener("hashchange", () => show());
addEventListener("session", () => {
  showCaller();
  // The cart has left with its owner.
  if (!session()) readCart();
});
// What a button could not do, unless its form says so.
addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof Problem) notify(reason.message, "problem");
});
showCaller();
show(true);
readCart().catch(() => {});
