/** Forms whose problems are shown where they are. */
import { Problem } from "./api.js";
import { h } from "./dom.js";

let fields = 0;

/** A labelled input, with room for what is wrong with it. `name` is the field's name in the API. */
export function field(label, name, attributes = {}, input = h("input", { name, ...attributes })) {
  const id = `field-${++fields}`;
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-problem`);
  const optional = !input.required && input.type !== "checkbox" && h("small", {}, " (optional)");
  return h("div", { class: `field ${input.type}` },
    h("label", { for: id }, label, optional),
    input,
    h("p", { id: `${id}-problem`, class: "problem" }));
}

const describe = (input) => document.getElementById(input.getAttribute("aria-describedby"));

function clear(form) {
  form.querySelector("[role=alert]")?.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    describe(input).textContent = "";
  }
}

/** Shows what the shop says is wrong: at its field if the form has it, else above the button. */
export function showProblem(form, problem) {
  clear(form);
  const elsewhere = problem.errors.filter(({ field: name, message }) => {
    const input = form.elements.namedItem(name);
    if (!input?.getAttribute?.("aria-describedby")) return true;
    input.setAttribute("aria-invalid", "true");
    describe(input).textContent = message;
    return false;
  });
  form.querySelector("[aria-invalid]")?.focus();
  if (problem.errors.length && !elsewhere.length) return;
  const text = elsewhere.map(({ message }) => message).join(". ") || problem.message;
  form.querySelector("button:not([type=button])").before(h("p", { role: "alert" }, text));
}

/** The values of a form; those that are empty are left out, "a.b" becomes a member of "a". */
export function values(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (value.trim() === "") continue;
    const [first, second] = name.split(".");
    if (second) (found[first] ??= {})[second] = value.trim();
    else found[first] = first.includes("password") ? value : value.trim();
  }
  return found;
}

/** A form that cannot be sent twice at once. `onSend` may throw a `Problem`. */
export function form(attributes, onSend, ...children) {
  const submit = async (event) => {
    event.preventDefault();
    if (element.ariaBusy === "true") return;
    element.ariaBusy = "true";
    clear(element);
    try {
      await onSend(values(element), element);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      showProblem(element, problem);
    } finally {
      element.ariaBusy = "false";
    }
  };
  const element = h("form", { ...attributes, submit }, ...children);
  return element;
}
