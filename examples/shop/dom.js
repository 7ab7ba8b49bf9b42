/** Small helpers for the page. Text is always set as text, never as HTML. */

export const $ = (id) => document.getElementById(id);

function append(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "checked" || name === "value") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Makes an element: `h("a", { href: "#/", click: go }, "Home")`. */
export const h = (tag, attributes = {}, ...children) =>
  append(document.createElement(tag), attributes, children);

const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes, ...children) =>
  append(document.createElementNS(SVG, tag), attributes, children);

export const money = (amount, currency) =>
  new Intl.NumberFormat(undefined, { style: "currency", currency }).format(amount);

export const date = (text) =>
  new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" })
    .format(new Date(text));

/** `water_resistant` becomes `Water resistant`. */
export const words = (name) =>
  (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll(/[_-]/g, " ");

/** Says something at the top of the page, also to screen readers. */
export function notify(text, kind = "info") {
  $("notice").textContent = text;
  $("notice").dataset.kind = kind;
}

let arrival = [""];

/** Goes to another page, where `text` is said. */
export function go(page, text = "", kind = "info") {
  arrival = [text, kind];
  location.hash = `#${page}`;
}

addEventListener("hashchange", () => {
  notify(...arrival);
  arrival = [""];
});

/** Calls `work` when nothing has called for `delay` ms, unless `cancel` is called before. */
export function debounce(work, delay = 150) {
  let timer;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), delay);
  };
  return Object.assign(later, { cancel: () => clearTimeout(timer) });
}

/** The product's picture or, if it has none, an ornament of its own. */
export function picture(product) {
  if (product.image_url) {
    return h("img", { class: "picture", src: product.image_url, alt: "", loading: "lazy" });
  }
  const hash = (text) => [...text].reduce((sum, c) => (sum * 131 + c.codePointAt(0)) % 99991, 7);
  const hue = (hash(product.category ?? "") * 7) % 360;
  const size = 26 + (hash(product.name) % 4) * 4;
  const square = (turn, fill) => svg("rect", {
    x: 60 - size / 2, y: 68 - size / 2, width: size, height: size, fill,
    transform: `rotate(${turn} 60 68)`,
  });
  return svg("svg", {
    class: "picture", viewBox: "0 0 120 120", preserveAspectRatio: "xMidYMid slice",
    "aria-hidden": "true",
  },
    svg("rect", { width: 120, height: 120, fill: `hsl(${hue} 45% 90%)` }),
    svg("path", {
      d: "M22 120V62c0-26 22-28 38-50 16 22 38 24 38 50v58z", fill: `hsl(${hue} 40% 80%)`,
    }),
    square(0, `hsl(${hue} 45% 45%)`), square(45, `hsl(${hue} 45% 45%)`),
    svg("circle", { cx: 60, cy: 68, r: size / 4, fill: `hsl(${hue} 45% 92%)` }),
  );
}
