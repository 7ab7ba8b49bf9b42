/** Calls the shop, and keeps who is calling: nobody, a guest with a cart, or a customer. */
import { API } from "./config.js";

const STORED = "souk-session";
const RETRIES = 3;

/** An answer of the shop that is an error, as RFC 9457 has it. */
export class Problem extends Error {
  constructor(status, { code = "unreachable", detail, errors = [], lines = [], ...rest }) {
    super(detail ?? "The shop cannot be reached. Try again in a moment.");
    Object.assign(this, rest, { status, code, errors, lines });
  }
}

/** `{token}` of a guest, or `{token, refresh_token, user}` of a customer. */
export const session = () => JSON.parse(localStorage.getItem(STORED) ?? "null");
export const isCustomer = () => Boolean(session()?.user);

function keep(value) {
  if (value) localStorage.setItem(STORED, JSON.stringify(value));
  else localStorage.removeItem(STORED);
  dispatchEvent(new Event("session"));
}

// Another tab has logged in or out.
addEventListener("storage", (event) => {
  if (event.key === STORED) dispatchEvent(new Event("session"));
});

/** A key that nothing else has. `crypto.randomUUID` would need HTTPS. */
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("-");

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function send(method, path, body, key, signal) {
  const token = session()?.token;
  const response = await fetch(API + path, {
    method,
    signal,
    headers: {
      ...(body && { "Content-Type": "application/json" }),
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(key && { "Idempotency-Key": key }),
    },
    body: body && JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Problem(response.status, answer), {
    retryAfter: Number(response.headers.get("Retry-After") ?? 1),
  });
}

/** Repeats what may not have arrived. The key makes of all repeats one change. */
async function sendPatiently(method, path, body, key, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await send(method, path, body, key, signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const problem = error instanceof Problem ? error : new Problem(0, {});
      const isSafe = method === "GET" || !path.startsWith("/api/auth/");
      if (!isSafe || ![0, 503].includes(problem.status) || tries > RETRIES) throw problem;
      await wait(problem.retryAfter ?? tries);
    }
  }
}

/** Gets new tokens, once for all calls and tabs that need them at the same time. */
const refresh = (old) =>
  (navigator.locks?.request.bind(navigator.locks) ?? ((_, work) => work()))(STORED, async () => {
    const { token, refresh_token, user } = session() ?? {};
    if (token !== old || !user) return;
    try {
      keep(await send("POST", "/api/auth/refresh", { refresh_token }));
    } catch (error) {
      if (error.status === 401) keep(null);
      else throw error;
    }
  });

/**
 * Calls the shop and returns what it answers; an error answer is thrown as a `Problem`. A `key` is
 * only needed to repeat a change later.
 */
export async function call(method, path, body, { key, signal } = {}) {
  key ??= method === "GET" ? undefined : newKey();
  const used = session()?.token;
  try {
    return await sendPatiently(method, path, body, key, signal);
  } catch (problem) {
    const isGuest = used && !isCustomer();
    if (!used || (problem.status !== 401 && problem.code !== "guest_cart_merged")) throw problem;
    if (path === "/api/auth/login" || problem.code === "invalid_credentials") throw problem;
    // The guest's cart has ended, or the access token has. The catalog needs neither.
    if (isGuest) keep(null);
    else await refresh(used);
    if (path.startsWith("/api/cart")) await needCart();
    return sendPatiently(method, path, body, key, signal);
  }
}

export { newKey };

/** Makes sure that there is a cart: a visitor becomes a guest. */
export async function needCart() {
  if (session()) return;
  const { token } = await call("POST", "/api/cart/guest");
  keep({ token });
}

/** Logs in or registers, and takes the guest's cart along. */
export async function enter(way, details) {
  const guest = isCustomer() ? undefined : session()?.token;
  const answer = await call("POST", `/api/auth/${way}`, { ...details, guest_token: guest });
  keep(answer);
  return { hadCart: Boolean(guest), merged: answer.cart_merged };
}

export async function leave() {
  await call("POST", "/api/auth/logout").catch(() => {});
  keep(null);
}

/**
 * Follows events until the function that it returns is called. `onOpen` should read what the events
 * change, since some may have been missed. A page that is not seen follows nothing: a browser has
 * six connections to a server, for all tabs together.
 */
export function follow({ types, subject, isPrivate = false, onOpen, onEvent }) {
  let source, timer, attempt = 0;
  const close = () => {
    attempt++;
    clearTimeout(timer);
    source?.close();
  };
  const open = async () => {
    close();
    const mine = attempt;
    if (document.hidden) return;
    const query = new URLSearchParams({ types: types.join(), subject });
    try {
      // EventSource can send no token. A ticket is good for one connection.
      if (isPrivate) query.set("ticket", (await call("POST", "/api/events/ticket")).ticket);
    } catch {
      if (mine === attempt) timer = setTimeout(open, 5000);
      return;
    }
    if (mine !== attempt) return;
    source = new EventSource(`${API}/api/events?${query}`);
    source.onopen = onOpen;
    source.onerror = () => {
      close();
      timer = setTimeout(open, 2000);
    };
    for (const type of types) {
      source.addEventListener(type, (event) => onEvent(JSON.parse(event.data)));
    }
  };
  document.addEventListener("visibilitychange", open);
  open();
  return () => {
    close();
    document.removeEventListener("visibilitychange", open);
  };
}
