/** Logging in and registering. A guest's cart comes along. */
import { call, enter, isCustomer, leave, session } from "./api.js";
import { readCart } from "./cart.js";
import { go, h } from "./dom.js";
import { field, form } from "./forms.js";

const email = () => field("E-mail", "email", {
  type: "email", autocomplete: "email", maxlength: 254, required: true,
});

const password = (autocomplete, minlength) =>
  field("Password", "password", { type: "password", autocomplete, minlength, required: true });

export async function account({ query }) {
  const next = query.get("next") ?? "/";
  const enterAs = (way) => async (values) => {
    const { hadCart, merged } = await enter(way, values);
    await readCart();
    if (!hadCart) go(next, "Welcome.");
    else if (merged) go(next, "Welcome. What was in your cart is still there.");
    else go(next, "Welcome. Your guest cart could not be taken along.", "problem");
  };
  if (isCustomer()) {
    const { name, email: address } = await call("GET", "/api/auth/me");
    const logOut = async () => {
      await leave();
      go("/", "You are logged out.");
    };
    return {
      title: `Hello, ${name}`,
      content: [
        h("p", {}, `You are logged in as ${address}.`),
        h("p", {}, h("a", { href: "#/orders" }, "Your orders")),
        h("button", { type: "button", class: "quiet", click: logOut }, "Log out"),
      ],
    };
  }
  return {
    title: "Log in or register",
    content: [
      session() && h("p", {}, "What is in your cart stays there."),
      h("div", { class: "columns even" },
        form({ id: "login" }, enterAs("login"), h("h2", {}, "Log in"),
          email(), password("current-password", 1), h("button", {}, "Log in")),
        form({ id: "register" }, enterAs("register"), h("h2", {}, "Register"),
          field("Name", "name", { autocomplete: "name", maxlength: 100, required: true }),
          email(), password("new-password", 8), h("button", {}, "Register"))),
    ],
  };
}
