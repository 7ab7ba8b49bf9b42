/** The orders of the customer or guest. An open order's page follows what happens to it. */
import { call, follow, session } from "./api.js";
import { totals } from "./cart.js";
import { date, h, money, notify, words } from "./dom.js";

const EVENTS = ["paid", "cancelled", "expired", "partially_fulfilled", "fulfilled", "refunded"];

const STATUS = {
  pending_payment: "Waiting for your payment", paid: "Paid", partially_fulfilled: "Partly shipped",
  fulfilled: "Shipped", cancelled: "Cancelled", expired: "Not paid in time",
};

const statusBadge = (status) =>
  h("span", { class: "badge", "data-status": status }, STATUS[status] ?? words(status));

export async function orders() {
  if (!session()) {
    return {
      title: "Your orders",
      content: [h("p", {}, h("a", { href: "#/account?next=/orders" }, "Log in"), " to see them.")],
    };
  }
  const rows = h("tbody", {});
  const more = h("button", { type: "button", class: "quiet", click: () => load() }, "Show more");
  let cursor;
  async function load() {
    const query = new URLSearchParams(cursor ? { cursor } : {});
    const page = await call("GET", `/api/orders?${query}`);
    rows.append(...page.items.map(({ id, number, placed_at, status, total_amount, currency }) =>
      h("tr", {},
        h("td", {}, h("a", { href: `#/orders/${id}` }, number)),
        h("td", {}, date(placed_at)),
        h("td", {}, statusBadge(status)),
        h("td", { class: "amount" }, money(total_amount, currency)))));
    cursor = page.next_cursor;
    more.hidden = !cursor;
  }
  await load();
  const table = h("table", { class: "lines" },
    h("thead", {}, h("tr", {}, ["Order", "Placed", "Status", "Total"].map((name) =>
      h("th", { scope: "col" }, name)))),
    rows);
  return {
    title: "Your orders",
    content: rows.children.length
      ? [table, more]
      : [h("p", {}, "You have not ordered anything yet.")],
  };
}

function addressLines({ name, line1, line2, postal_code, city, region, country }) {
  const lines = [name, line1, line2, [postal_code, city].join(" "), region, country];
  return h("address", {}, lines.filter(Boolean).flatMap((text) => [text, h("br")]));
}

export async function order({ id }) {
  const place = h("div", {});
  let shown = { version: 0 };
  const cancel = async () => {
    try {
      show(await call("POST", `/api/orders/${id}/cancel`));
      notify("The order is cancelled.");
    } catch (problem) {
      notify(problem.message, "problem");
    }
  };
  /** Shows the order; what is older than what is shown comes too late. */
  function show(order) {
    if (order.version < shown.version) return;
    shown = order;
    const { number, status, currency, items, shipments, expires_at } = order;
    const address = order.shipping_address;
    place.replaceChildren(h("div", { class: "columns" },
      h("section", { "aria-label": "Order" },
        h("p", { role: "status" }, statusBadge(status)),
        status === "pending_payment" && h("p", {},
          `Pay ${money(order.total_amount, currency)} with ${number} as its reference`,
          expires_at && `, until ${date(expires_at)}`, ". Your goods are reserved until then."),
        h("ul", {}, items.map(({ product_id, name, quantity, total }) => h("li", {},
          `${quantity} × `, h("a", { href: `#/product/${product_id}` }, name),
          ` for ${money(total, currency)}`))),
        shipments.map(({ carrier, tracking, at }) =>
          h("p", {}, `Shipped ${date(at)} `, [carrier, tracking].filter(Boolean).join(" "))),
        address && addressLines(address),
        status === "pending_payment"
          && h("button", { type: "button", class: "quiet", click: cancel }, "Cancel the order")),
      h("aside", { "aria-label": "Summary" }, totals(order))));
  }
  const read = async () => {
    const found = await call("GET", `/api/orders/${id}`);
    show(found);
    return found;
  };
  const { number } = await read();
  return {
    title: `Order ${number}`,
    content: [place],
    leave: follow({
      types: EVENTS.map((event) => `order.${event}`), subject: id, isPrivate: true,
      // Events are without the addresses.
      onOpen: read, onEvent: ({ data }) => show({ ...shown, ...data }),
    }),
  };
}
