/** Checkout: where to, how, and what it comes to. A guest gives an e-mail address. */
import { call, isCustomer, newKey } from "./api.js";
import { discountCodes, readCart, totals } from "./cart.js";
import { COUNTRIES } from "./countries.js";
import { go, h, money } from "./dom.js";
import { field, form, showProblem, values } from "./forms.js";

const countryName = new Intl.DisplayNames(undefined, { type: "region" });

function countrySelect(name) {
  const options = COUNTRIES.map((code) => ({ code, label: countryName.of(code) }))
    .toSorted((a, b) => a.label.localeCompare(b.label));
  return h("select", { name, required: true, autocomplete: "country" },
    h("option", { value: "" }, "Choose a country"),
    options.map(({ code, label }) => h("option", { value: code }, label)));
}

/** The fields of an address. `path` is that of the address in the API. */
function addressFields(path) {
  const text = (label, name, autocomplete, required = true) =>
    field(label, `${path}.${name}`, { autocomplete, required, maxlength: 200 });
  return [
    text("Name", "name", "name"),
    text("Street and number", "line1", "address-line1"),
    text("Apartment, floor", "line2", "address-line2", false),
    text("Postal code", "postal_code", "postal-code"),
    text("City", "city", "address-level2"),
    field("Country", `${path}.country`, {}, countrySelect(`${path}.country`)),
    // Taxes go by the code: the name of a region would be another region.
    field("State or region code, such as NY", `${path}.region`, {
      autocomplete: "address-level1", maxlength: 3,
    }),
    text("Phone", "phone", "tel", false),
  ];
}

/** The addresses of the customer, to choose from. */
function savedAddresses(addresses, form) {
  const fill = (address) => {
    for (const [name, value] of Object.entries(address ?? {})) {
      const input = form.elements.namedItem(`shipping_address.${name}`);
      if (input) input.value = value;
    }
    form.elements.namedItem("shipping_address.country")
      .dispatchEvent(new Event("change", { bubbles: true }));
  };
  const choice = h("select", { change: ({ target }) => fill(addresses[target.value]) },
    addresses.map(({ name, line1, city }, index) =>
      h("option", { value: index }, [name, line1, city].join(", "))));
  form.prepend(field("Your addresses", "saved", {}, choice));
  fill(addresses[0]);
}

/** Why an order was not placed, in words that say what to do. */
function explain(problem, cart) {
  const names = problem.lines
    .map(({ product_id }) => cart.items.find((item) => item.product_id === product_id)?.name)
    .filter(Boolean).join(", ");
  if (problem.code === "price_changed") {
    const total = money(problem.total_amount, cart.currency);
    problem.message = `The total is now ${total}. Order again if you agree.`;
  } else if (problem.code === "insufficient_stock") {
    problem.message = `There is not enough of ${names}. Change your cart.`;
  } else if (problem.code === "purchase_limit_reached") {
    problem.message = `You can have no more of ${names}. Change your cart.`;
  }
  return problem;
}

export async function checkout() {
  let cart = await readCart();
  if (cart.items.length === 0) {
    return { title: "Checkout", content: [h("p", {}, "Your cart is empty.")] };
  }
  const methods = h("fieldset", { class: "methods", hidden: true });
  const summary = h("aside", { "aria-label": "Summary" });
  let sent = {};

  function show(changed) {
    cart = changed;
    summary.replaceChildren(
      h("h2", {}, "Your order"),
      h("ul", {}, cart.items.map(({ name, quantity }) => h("li", {}, `${quantity} × ${name}`))),
      totals(cart), ...discountCodes(cart, show));
  }

  /** Asks what shipping and taxes come to for the address, and how it can be shipped. */
  async function ship(method_id) {
    const { country, region, postal_code } = values(page).shipping_address ?? {};
    if (!country) return;
    try {
      show(await call("PUT", "/api/cart/shipping", { country, region, postal_code, method_id }));
    } catch (problem) {
      // The fields have other names in the address.
      problem.errors?.forEach((error) => { error.field = `shipping_address.${error.field}`; });
      return showProblem(page, problem);
    }
    const { items } = await call("GET", "/api/cart/shipping-methods");
    methods.hidden = items.length === 0;
    methods.replaceChildren(h("legend", {}, "Shipping"), ...items.map(({ id, name, amount }) =>
      h("label", { class: "choice" },
        h("input", {
          type: "radio", name: "method", value: id, checked: id === cart.shipping?.method_id,
        }),
        h("span", {}, name), h("span", {}, money(amount, cart.currency)))));
  }

  async function order({ method, billing: _, ...details }) {
    const body = { ...details, expected_total: cart.total_amount };
    // The same order once more has the same key, so that it is placed once.
    const text = JSON.stringify(body);
    if (sent.text !== text) sent = { text, key: newKey() };
    let placed;
    try {
      placed = await call("POST", "/api/checkout", body, sent);
    } catch (problem) {
      // Nobody knows whether the order was placed: the same request tells.
      if (problem.status === 0 || problem.code === "outcome_unknown") throw problem;
      sent = {};
      show(await readCart());
      throw explain(problem, cart);
    }
    go(`/orders/${placed.id}`, `Thank you. Your order is ${placed.number}.`);
    await readCart();
  }

  const billing = h("div", {});
  const choice = field("The bill goes to another address", "billing", {
    type: "checkbox",
    change: ({ target }) => billing.replaceChildren(...(target.checked
      ? [h("fieldset", { class: "address" }, h("legend", {}, "Billing address"),
        addressFields("billing_address"))]
      : [])),
  });
  const changed = ({ target }) => {
    if (target.name === "method") return ship(target.value);
    if (/^shipping_address\.(country|region|postal_code)$/.test(target.name)) return ship();
  };
  const page = form({ id: "checkout", change: changed }, order,
    !isCustomer() && h("fieldset", {}, h("legend", {}, "About you"),
      h("p", {}, "You order as a guest. ",
        h("a", { href: "#/account?next=/checkout" }, "Log in or register instead")),
      field("E-mail", "email", { type: "email", autocomplete: "email", required: true })),
    h("fieldset", { class: "address" },
      h("legend", {}, "Shipping address"), addressFields("shipping_address")),
    choice, billing, methods,
    h("button", {}, "Place the order"));
  show(cart);
  if (isCustomer()) {
    const { items } = await call("GET", "/api/auth/me/addresses");
    if (items.length) savedAddresses(items, page);
  }
  return { title: "Checkout", content: [h("div", { class: "columns" }, page, summary)] };
}
