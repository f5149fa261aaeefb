// Shows the platform's own OpenAPI document: operations by tag with their parameters, bodies and answers, and a
// form that tries a GET with the reader's token. It needs no library and asks nobody but the platform.
"use strict";

const METHODS = ["get", "post", "put", "delete"];
/** Schemas inside schemas are unfolded by the reader, to this depth at the most. */
const DEPTH_MAX = 6;
/** More of an answer than this is not shown. */
const SHOWN_CHARS_MAX = 20_000;

/** An element with properties and children; strings become text, never markup. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The text with what stands between backquotes as code. */
function prose(text = "") {
  return element("span", {}, ...text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part)));
}

class Page {
  constructor(api) {
    this.api = api;
  }

  resolve(schema = {}) {
    return schema.$ref ? this.api.components.schemas[schema.$ref.split("/").pop()] ?? {} : schema;
  }

  /** A schema in one line: `string`, `Version[]`, `integer (uint64)`. */
  typeName(schema = {}) {
    if (schema.$ref) return schema.$ref.split("/").pop();
    const parts = schema.oneOf ?? schema.anyOf;
    if (parts) return parts.filter((part) => part.type !== "null").map((part) => this.typeName(part)).join(" | ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    const types = [schema.type ?? "any"].flat().filter((type) => type !== "null");
    if (types[0] === "array") return `${this.typeName(schema.items)}[]`;
    if (schema.additionalProperties?.type) return `map of ${this.typeName(schema.additionalProperties)}`;
    return types.join(" | ") + (schema.format ? ` (${schema.format})` : "");
  }

  /** The fields of a schema, those of its inner schemas folded. */
  schema(schema = {}, depth = 0) {
    const whole = this.resolve(schema);
    if (whole.oneOf && depth < DEPTH_MAX) {
      const parts = whole.oneOf.filter((part) => part.type !== "null");
      return element("div", {}, ...parts.map((part) => element("div", {},
        element("p", { className: "faint" }, prose(part.description ?? "")), this.schema(part, depth + 1))));
    }
    if (whole.type === "array" || [whole.type].flat().includes("array")) return this.schema(whole.items, depth);
    if (!whole.properties) return whole.enum ? element("code", {}, this.typeName(whole)) : null;
    const rows = Object.entries(whole.properties).map(([name, field]) => this.field(name, field, whole, depth));
    return element("table", {}, ...rows);
  }

  field(name, field, whole, depth) {
    const isRequired = (whole.required ?? []).includes(name);
    const inner = this.inner(field);
    const described = [field, ...(field.oneOf ?? []), this.resolve(field)].find((one) => one.description);
    const text = element("div", {}, prose(described?.description));
    if (inner && depth < DEPTH_MAX) text.append(this.folded(inner, depth + 1));
    return element("tr", {},
      element("td", {}, element("code", {}, name)),
      element("td", { className: "faint" }, this.typeName(field), isRequired ? "" : ", optional"), element("td", {}, text));
  }

  /** The schema with fields that stands in a field, in its items or as its only alternative. */
  inner(field) {
    const candidates = [field, field.items, ...(field.oneOf ?? []), ...(field.anyOf ?? [])];
    return candidates.find((one) => one && (this.resolve(one).properties || this.resolve(one).oneOf));
  }

  /** A schema that is made when it is unfolded, so that recursive shapes do no harm. */
  folded(schema, depth) {
    const box = element("details", { className: "schema" }, element("summary", {}, this.typeName(schema)));
    box.addEventListener("toggle", () => {
      if (box.open && box.childElementCount === 1) box.append(this.schema(schema, depth) ?? "");
    });
    return box;
  }

  parameters(list = []) {
    if (list.length === 0) return null;
    const rows = list.map((one) => element("tr", {},
      element("td", {}, element("code", {}, one.name)),
      element("td", { className: "faint" }, `${one.in}, ${this.typeName(one.schema)}`, one.required ? "" : ", optional"),
      element("td", {}, prose(one.description))));
    return element("div", {}, element("h4", {}, "Parameters"), element("table", {}, ...rows));
  }

  content(content = {}) {
    return Object.entries(content).map(([type, { schema }]) => element("div", {},
      element("code", {}, type), " ", element("span", { className: "faint" }, this.typeName(schema)),
      this.inner(schema ?? {}) ? this.folded(this.inner(schema), 0) : null));
  }

  request(body) {
    return body ? element("div", {}, element("h4", {}, "Body"), ...this.content(body.content)) : null;
  }

  responses(responses) {
    const rows = Object.entries(responses).sort().map(([status, response]) => element("tr", {},
      element("td", {}, element("code", {}, status)),
      element("td", {}, prose(response.description), ...this.content(response.content))));
    return element("div", {}, element("h4", {}, "Answers"), element("table", {}, ...rows));
  }

  operation(path, method, operation) {
    const isOpen = operation.security?.some((way) => Object.keys(way).length === 0);
    return element("details", { className: "operation", id: operation.operationId },
      element("summary", {}, element("span", { className: "method" }, method.toUpperCase()),
        element("code", {}, path), element("span", { className: "faint" }, operation.summary ?? "")),
      element("div", {},
        operation.description ? element("p", {}, prose(operation.description)) : null,
        isOpen ? element("p", { className: "faint" }, "Needs no token.") : null,
        this.parameters(operation.parameters), this.request(operation.requestBody),
        this.responses(operation.responses), method === "get" ? this.tryForm(path, operation) : null));
  }

  tryForm(path, operation) {
    const inputs = (operation.parameters ?? []).filter((one) => one.name !== "follow").map((one) => {
      const input = element("input", { required: one.required, placeholder: one.required ? "" : "optional" });
      return { ...one, input };
    });
    const output = element("pre", { hidden: true });
    const labels = inputs.map((one) => element("label", {}, one.name, one.input));
    const form = element("form", { className: "try" }, ...labels, element("button", {}, "Send"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(target(path, inputs), output);
    });
    return element("div", {}, element("h4", {}, "Try it"), form, output);
  }

  show() {
    const { info, tags = [], paths } = this.api;
    document.title = info.title;
    document.getElementById("title").textContent = `${info.title} ${info.version}`;
    const main = document.getElementById("operations");
    const index = document.getElementById("index");
    main.replaceChildren(element("p", {}, prose(info.description)));
    const all = Object.entries(paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
    for (const tag of tags) {
      const own = all.filter(({ operation }) => operation.tags?.includes(tag.name));
      main.append(element("h2", {}, tag.name), element("p", { className: "faint" }, tag.description ?? ""),
        ...own.map(({ path, method, operation }) => this.operation(path, method, operation)));
      index.append(element("strong", {}, tag.name), ...own.map(({ operation }) =>
        element("a", { href: `#${operation.operationId}` }, operation.summary ?? operation.operationId)));
    }
  }
}

/** The request's address, from the path's template and what was filled in. */
function target(path, inputs) {
  const query = new URLSearchParams();
  let filled = path;
  for (const { name, in: place, input } of inputs) {
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.set(name, input.value);
  }
  return query.size > 0 ? `${filled}?${query}` : filled;
}

async function send(url, output) {
  output.hidden = false;
  output.textContent = `GET ${url} …`;
  const token = document.getElementById("token").value.trim();
  try {
    const response = await fetch(url, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    output.textContent = `${response.status} ${response.statusText}\n\n${pretty(await response.text())}`;
  } catch (error) {
    output.textContent = `The request failed: ${error.message}`;
  }
}

function pretty(text) {
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: shown as it is.
  }
  return shown.length > SHOWN_CHARS_MAX ? `${shown.slice(0, SHOWN_CHARS_MAX)}\n… and more` : shown;
}

/** Opens the operation that the address names. */
function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

async function main() {
  try {
    const response = await fetch("/openapi.json");
    new Page(await response.json()).show();
    openNamed();
    addEventListener("hashchange", openNamed);
  } catch (error) {
    document.getElementById("operations").textContent = `The document could not be read: ${error.message}`;
  }
}

main();
