/* The page: shows what fits who is logged in and the part of the address after "#", and sends the forms to the API. */

// Beside this file, whatever path a proxy has put the service under.
const API = new URL("api/user", import.meta.url).pathname;
const TIMEOUT_MILLISECONDS = 60_000;
const HEADINGS = {
  login: "Log in",
  signup: "Sign up",
  account: "Your account",
  name: "Change your username",
  password: "Change your password",
  unavailable: "Not available",
};
const VIEWS_OF_GUESTS = ["login", "signup"];
const VIEWS_OF_USERS = ["account", "name", "password"];

const heading = document.getElementById("heading");
const notice = document.getElementById("status");
const warning = document.getElementById("warning");
const progress = document.getElementById("progress");
const current = document.getElementById("current");

let user = null; // who is logged in, as the API answers
let known = false; // whether the API has said who is logged in
let busy = false; // whether a form is on its way: there is never a second one

/* What went wrong with a request: the members of the API's problem, or `code` and `detail` of our own. */
class Problem extends Error {
  constructor(members, response) {
    super(members.detail);
    this.code = members.code;
    this.errors = members.errors ?? [];
    this.requestId = response?.status >= 500 ? members.request_id : undefined;
    this.wait = waitingTime(response?.headers.get("Retry-After"));
  }
}

/* Send a request; return the user that the API answers with, null after a logout. Throws Problem. */
async function send(method, path = "", body = undefined) {
  let response, text;
  try {
    response = await fetch(API + path, {
      method,
      headers: body && { "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
    });
    text = await response.text();
  } catch (error) {
    const detail = error.name === "TimeoutError"
      ? "The service is taking too long. Your request may still have been received."
      : "The service cannot be reached. Check your connection and try again.";
    throw new Problem({ code: "no_answer", detail });
  }
  const answer = parse(text);
  const expected = path === "/logout" ? text === "" : typeof answer?.username === "string";
  if (response.ok && expected) return answer;
  if (!response.ok && typeof answer?.code === "string") throw new Problem(answer, response);
  // A proxy's page, or that of a network that wants a login of its own.
  const detail = `Your network or a proxy responded instead of the service (${response.status}). Try again later.`;
  throw new Problem({ code: "no_answer", detail }, response);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/* Return how long a Retry-After, in seconds or a date, asks to wait, in words. */
function waitingTime(retryAfter) {
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  if (!(seconds > 0)) return "";
  const [amount, unit] = seconds < 100 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay: "long" }).format(Math.ceil(amount));
}

/* What each form does: the request, what is said while it is under way, and what when it is done. */
const ACTIONS = {
  login: {
    busy: "Logging in…",
    send: (data) => send("POST", "/login", data),
    done: () => "",
  },
  signup: {
    busy: "Signing up…",
    send: (data) => send("POST", "/signup", data),
    done: () => `Welcome, ${user.username}.`,
  },
  name: {
    busy: "Changing…",
    send: (data) => send("PUT", "", data),
    done: () => `Your username is now ${user.username}.`,
  },
  password: {
    busy: "Changing…",
    send: (data) => send("PUT", "", data),
    done: () => "Your password has been changed. You have been logged out on all other devices.",
  },
  logout: {
    busy: "Logging out…",
    send: () => send("POST", "/logout"),
    done: () => "You are logged out.",
  },
};

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const name = form.dataset.action;
  if (busy) return;
  if (name === "retry") return load(form);
  const action = ACTIONS[name];
  // A phone's keyboard puts a space behind a name that it completes. A password may begin and end with spaces.
  if (form.elements.username) form.elements.username.value = form.elements.username.value.trim();
  const data = Object.fromEntries(new FormData(form));
  clearMessages();
  conceal(form); // a password that is shown would be kept as a text by the browser
  setBusy(form, action.busy);
  let problem = null;
  try {
    const answer = await action.send(data);
    if (VIEWS_OF_GUESTS.includes(name)) await checkCookie();
    user = answer;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
  } finally {
    setBusy(form, "");
  }
  if (problem) return explain(problem, form);
  // A user who wanted the form for the password, and had to log in first, gets it now.
  if (!(VIEWS_OF_GUESTS.includes(name) && VIEWS_OF_USERS.includes(wanted()))) {
    history.replaceState(null, "", user ? "#account" : "#login");
  }
  form.reset();
  render();
  notice.textContent = action.done();
}

/* Throw a Problem when the browser has not kept the cookie of a login; it says nothing of that by itself. */
async function checkCookie() {
  try {
    await send("GET");
  } catch (error) {
    if (error.code !== "not_logged_in") return; // the login was answered: what is wrong now, the next request says
    const detail = location.protocol === "http:"
      ? "Your browser does not keep you logged in over http://. Open this page with https:// and log in there."
      : "Your browser did not keep you logged in. Allow cookies for this page and log in again.";
    throw new Problem({ code: "no_cookie", detail });
  }
}

/* Say what went wrong with a form: beside its fields where the problem names them, else above it. */
function explain(problem, form) {
  if (problem.code === "not_logged_in") return endSession();
  if (problem.code === "reauthentication_required") {
    askForCurrentPassword(true);
    return document.getElementById("password-current").focus();
  }
  let errors = problem.errors;
  if (problem.code === "invalid_credentials" && form.elements.current_password) {
    errors = [{ field: "current_password", message: "This is not your current password." }];
  }
  const others = [];
  for (const { field, message } of errors) {
    const input = form.elements[field];
    if (!input || input.disabled) {
      others.push(`${field}: ${message}`);
      continue;
    }
    input.setAttribute("aria-invalid", "true");
    document.getElementById(`${input.id}-error`).textContent = message;
  }
  if (others.length || !errors.length) warn(problem, others);
  const first = form.querySelector("[aria-invalid]");
  if (first) first.focus();
  else if (problem.code === "invalid_credentials") form.elements.password.select();
}

/* Say above the form what is wrong with a request as a whole. */
function warn(problem, more = []) {
  const lines = [problem.message, ...more];
  if (problem.wait) lines.push(`Try again in ${problem.wait}.`);
  if (problem.requestId) lines.push(`request_id: ${problem.requestId}`);
  warning.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
  warning.scrollIntoView({ block: "nearest" });
}

/* Bring the login form back; the name that was typed for another one stays in its form. */
function endSession() {
  document.getElementById("login-username").value = user?.username ?? "";
  user = null;
  render();
  notice.textContent = "You have been logged out. Log in to continue.";
}

function askForCurrentPassword(needed) {
  current.hidden = !needed;
  document.getElementById("password-current").disabled = !needed;
}

function setBusy(form, text) {
  busy = text !== "";
  form.setAttribute("aria-busy", String(busy));
  progress.textContent = text;
  // A button that is disabled outright would lose the focus.
  for (const button of document.querySelectorAll("form > button")) button.setAttribute("aria-disabled", String(busy));
  const button = form.querySelector(":scope > button");
  button.dataset.text ??= button.textContent;
  button.textContent = text || button.dataset.text;
}

function clearMessages() {
  for (const element of document.querySelectorAll(".notice, .error")) element.replaceChildren();
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function conceal(root) {
  for (const button of root.querySelectorAll(".show")) reveal(button, false);
}

function reveal(button, shown) {
  document.getElementById(button.getAttribute("aria-controls")).type = shown ? "text" : "password";
  button.firstElementChild.textContent = shown ? "Hide" : "Show";
}

function wanted() {
  return location.hash.slice(1);
}

/* Return the view for who is logged in and the address: what takes a login waits behind the login form. */
function viewNow() {
  if (!known) return "unavailable";
  const views = user ? VIEWS_OF_USERS : VIEWS_OF_GUESTS;
  return views.includes(wanted()) ? wanted() : views[0];
}

function render({ focus = true } = {}) {
  const view = viewNow();
  for (const section of document.querySelectorAll("[data-view]")) {
    section.hidden = section.dataset.view !== view;
    if (section.hidden) forgetPasswords(section);
  }
  heading.textContent = HEADINGS[view];
  document.title = `${HEADINGS[view]} · demo-user`;
  heading.parentElement.removeAttribute("aria-busy");
  if (user) {
    const since = document.getElementById("account-since");
    document.getElementById("account-username").textContent = user.username;
    document.getElementById("password-username").value = user.username;
    since.dateTime = user.signup_time;
    since.textContent = new Date(user.signup_time).toLocaleDateString("en-GB", { dateStyle: "long" });
  }
  if (focus) heading.focus();
}

function forgetPasswords(section) {
  conceal(section);
  for (const input of section.querySelectorAll("[type=password]")) input.value = "";
  if (section.contains(current)) askForCurrentPassword(false);
}

/* Ask who is logged in, at first or by a form; only then is it known which view is the right one. */
async function load(form) {
  clearMessages();
  if (form) setBusy(form, "Trying again…");
  let problem = null;
  try {
    user = await send("GET");
    known = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
    known = problem.code === "not_logged_in";
  }
  if (form) setBusy(form, "");
  render({ focus: Boolean(form) });
  if (!known) warn(problem);
}

/* Look again when somebody comes back to this page: it may be a user, another one, or nobody by now. */
async function lookAgain() {
  if (document.visibilityState !== "visible" || !known || busy) return;
  const before = user;
  let now;
  try {
    now = await send("GET");
  } catch (error) {
    if (error.code === "not_logged_in" && user && user === before && !busy) endSession();
    return;
  }
  if (user !== before || busy || now.username === user?.username) return;
  user = now;
  render({ focus: false });
  notice.textContent = `You are logged in as ${user.username}.`;
}

document.addEventListener("submit", submit);
document.addEventListener("click", (event) => {
  const button = event.target.closest(".show");
  if (button) reveal(button, button.firstElementChild.textContent === "Show");
});
document.addEventListener("visibilitychange", lookAgain);
window.addEventListener("hashchange", () => {
  if (!known) return;
  clearMessages();
  render();
});
load();
