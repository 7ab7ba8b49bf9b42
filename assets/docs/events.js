/** Shows the AsyncAPI document: its messages by family, with their members and an example. */

/** Makes an element; text is set as text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A text in which `code` is in backticks. */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** The schema that a reference names, and what is said beside the reference. */
function resolve(api, schema) {
  if (!schema.$ref) return schema;
  const path = schema.$ref.slice(2).split("/");
  const { $ref, ...beside } = schema;
  return { ...resolve(api, path.reduce((found, name) => found[name], api)), ...beside };
}

/** The schema of a value that may be null, without null. */
function unwrap(api, schema) {
  const found = resolve(api, schema);
  const options = found.anyOf?.filter(({ type }) => type !== "null");
  return options?.length === 1 ? { ...found, ...unwrap(api, options[0]) } : found;
}

/** A type in words, such as `list of string, null`. */
function typeName(api, schema) {
  const found = resolve(api, schema);
  if (found.anyOf) return found.anyOf.map((option) => typeName(api, option)).join(", ");
  if ("const" in found) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(", ");
  const types = [found.type ?? "any"].flat();
  return types.map((type) => {
    if (type === "array") return `list of ${typeName(api, found.items ?? {})}`;
    return found.format && type === "string" ? found.format : type;
  }).join(", ");
}

/** All members below a schema: path, type and description. */
function members(api, schema, path = "", depth = 0) {
  const found = unwrap(api, schema);
  if ([found.type].flat().includes("array")) {
    return members(api, found.items ?? {}, `${path}[]`, depth);
  }
  if (depth > 6) return [];
  return Object.entries(found.properties ?? {}).flatMap(([name, member]) => {
    const at = path ? `${path}.${name}` : name;
    const isRequired = (found.required ?? []).includes(name);
    return [
      { at, isRequired, type: typeName(api, member), text: unwrap(api, member).description ?? "" },
      ...members(api, member, at, depth + 1),
    ];
  });
}

const STRINGS = {
  uuid: "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d", "date-time": "2026-11-28T12:00:00.000Z",
};

/** A value that fits a schema. */
function example(api, schema) {
  const found = unwrap(api, schema);
  if ("const" in found) return found.const;
  if (found.enum) return found.enum[0];
  const type = [found.type].flat().find((name) => name !== "null");
  if (type === "array") return [example(api, found.items ?? {})];
  if (type === "object" || found.properties) {
    const required = Object.entries(found.properties ?? {})
      .filter(([name]) => (found.required ?? []).includes(name));
    return Object.fromEntries(required.map(([name, member]) => [name, example(api, member)]));
  }
  if (type === "integer") return Math.max(found.minimum ?? 0, 1);
  if (type === "number") return 19.99;
  if (type === "boolean") return true;
  if (found.pattern === "^[1-9][0-9]*$") return "1";
  if (found.pattern === "^[A-Z]{3}$") return "USD";
  return STRINGS[found.format] ?? "text";
}

function memberTable(api, schema) {
  const rows = members(api, schema).map(({ at, isRequired, type, text }) => h("tr", {},
    h("td", {}, h("code", {}, at), isRequired ? "" : " (optional)"),
    h("td", {}, type),
    h("td", {}, ...prose(text))));
  const head = ["Member", "Type", "Meaning"].map((name) => h("th", { scope: "col" }, name));
  return h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
}

/** A message, whose members are made when it is opened. */
function messageDetails(api, { name, summary, payload, headers }) {
  const body = h("div", { class: "body" });
  const details = h("details", { class: "message", id: name },
    h("summary", {}, h("code", {}, name), h("span", {}, ...prose(summary))), body);
  details.addEventListener("toggle", () => {
    if (body.children.length) return;
    const hasMembers = Object.keys(payload).length > 0;
    if (hasMembers) {
      body.append(memberTable(api, payload),
        h("h3", {}, "Example"),
        h("pre", {}, JSON.stringify(example(api, payload), null, 2)));
    }
    body.append(h("h3", {}, "Headers on the broker"), memberTable(api, headers));
  });
  return details;
}

/** The families of messages in their order: the first word of the name. */
function families(messages) {
  const found = new Map();
  for (const message of messages) {
    const isEvent = message.contentType === "application/cloudevents+json";
    const family = isEvent ? message.name.split(".")[0] : "commands";
    found.set(family, [...(found.get(family) ?? []), message]);
  }
  return [...found];
}

/** Shows only messages that have the text in their name or summary. */
function filterBy(text) {
  for (const section of document.querySelectorAll("section")) {
    for (const details of section.querySelectorAll("details")) {
      const words = details.querySelector("summary").textContent.toLowerCase();
      details.hidden = !words.includes(text.trim().toLowerCase());
    }
    section.hidden = !section.querySelector("details:not([hidden])");
  }
}

/** Opens the message that the address names. */
function openNamed() {
  const details = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(details instanceof HTMLDetailsElement)) return;
  details.open = true;
  details.scrollIntoView();
}

async function show() {
  const response = await fetch("/asyncapi.json");
  const api = await response.json();
  const { title, version, description } = api.info;
  document.title = `${title} events`;
  const filter = h("input", { id: "filter", type: "search", placeholder: "order.paid" });
  filter.addEventListener("input", () => filterBy(filter.value));
  const sections = families(Object.values(api.components.messages)).map(([family, messages]) =>
    h("section", { "aria-labelledby": `family-${family}` },
      h("h2", { id: `family-${family}` }, family),
      ...messages.map((message) => messageDetails(api, message))));
  document.getElementById("main").replaceChildren(
    h("h1", {}, `${title} events `, h("small", {}, version)),
    h("p", {}, ...prose(description)),
    h("p", {}, "They also come over ", h("code", {}, "GET /api/events"),
      ", to webhooks, and as the document ", h("a", { href: "/asyncapi.json" }, "/asyncapi.json"),
      " says to RabbitMQ."),
    h("label", { for: "filter" }, "Filter by name or meaning"), filter,
    ...sections);
  openNamed();
}

addEventListener("hashchange", openNamed);
show();
