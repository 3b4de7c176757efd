/* The page: shows what fits who is logged in and the part of the address after "#", and sends the forms to the API. */

import { Problem, hasCode, hasCount, hasTime, isEmpty, isList, send } from "./api.js";

const HEADINGS = {
  login: "Log in",
  signup: "Sign up",
  recover: "Forgot your password?",
  account: "Your account",
  name: "Change your username",
  password: "Change your password",
  sessions: "Where you are logged in",
  "recovery-code": "Recovery code",
  delete: "Delete your account",
  unavailable: "Not available",
};
const VIEWS_OF_GUESTS = ["login", "signup", "recover"];
const VIEWS_OF_USERS = ["account", "name", "password", "sessions", "recovery-code", "delete"];

const heading = document.getElementById("heading");
const main = heading.parentElement;
const notice = document.getElementById("status");
const warning = document.getElementById("warning");
const progress = document.getElementById("progress");
const current = document.getElementById("current");
const dialog = document.getElementById("reauthentication");

let user = null; // who is logged in, as the API answers
let known = false; // whether the API has said who is logged in
let busy = false; // whether a form is on its way: there is never a second one
let newCode = null; // a recovery code while it is shown, which is only once
let renderings = 0; // how often a view was asked for: only the last one is shown
let asking = null; // the promise of who waits for the password in the dialog

/* What each form does: what is said while it is under way, the request, what is said when it is done, the view then
   (else the account or the login), and what is wrong when the API takes the credentials for wrong. */
const ACTIONS = {
  login: {
    busy: "Logging in…",
    send: (data) => enter("/user/login", data),
    done: () => "",
  },
  signup: {
    busy: "Signing up…",
    send: (data) => enter("/user/signup", data),
    done: () => `Welcome, ${user.username}.`,
  },
  recover: {
    busy: "Setting…",
    send: (data) => enter("/user/recover", data),
    done: () => "Your password has been changed. You have been logged out on all other devices, and the recovery code is used up.",
    wrong: { field: "recovery_code", message: "The username or the recovery code is wrong." },
  },
  name: {
    busy: "Changing…",
    send: async (data) => become(await send("PUT", "/user", data)),
    done: () => `Your username is now ${user.username}.`,
  },
  password: {
    busy: "Changing…",
    send: async (data) => become(await send("PUT", "/user", data)),
    done: () => "Your password has been changed. You have been logged out on all other devices.",
    wrong: { field: "current_password", message: "This is not your current password." },
  },
  logout: {
    busy: "Logging out…",
    send: async () => {
      await send("POST", "/user/logout", undefined, isEmpty);
      become(null);
    },
    done: () => "You are logged out.",
  },
  end: {
    busy: "Logging out…",
    send: async (data, form) => {
      try {
        await sendFresh("DELETE", `/user/sessions/${form.dataset.id}`, undefined, isEmpty);
      } catch (error) {
        if (error.code !== "not_found") throw error; // it was logged out meanwhile
      }
    },
    done: (form) => `${form.dataset.device} is logged out.`,
    view: "sessions",
  },
  "end-others": {
    busy: "Logging out…",
    send: () => sendFresh("DELETE", "/user/sessions", undefined, hasCount),
    done: () => "You are logged out everywhere else.",
    view: "sessions",
  },
  "create-code": {
    busy: "Creating…",
    send: async () => {
      await checkUser();
      newCode = await sendFresh("POST", "/user/recovery-code", undefined, hasCode);
    },
    done: () => "Your recovery code has been created.",
    view: "recovery-code",
  },
  "delete-code": {
    busy: "Deleting…",
    send: () => sendFresh("DELETE", "/user/recovery-code", undefined, isEmpty),
    done: () => "Your recovery code has been deleted.",
    view: "recovery-code",
  },
  delete: {
    busy: "Deleting…",
    send: async ({ username }) => {
      if (username.normalize("NFKC").toLowerCase() !== user.username) {
        throw new Problem({ code: "other_name", errors: [{ field: "username", message: "This is not your username." }] });
      }
      await checkUser();
      await sendFresh("DELETE", "/user", undefined, isEmpty);
      become(null);
    },
    done: () => "Your account has been deleted.",
  },
  reauthenticate: {
    busy: "Checking…",
    wrong: { field: "password", message: "This is not your password." },
  },
};

/* What a view has to know before it is shown, and how it shows that. */
const CONTENTS = {
  account: {
    load: async () => {
      try {
        return await send("GET", "/user/recovery-code", undefined, hasTime);
      } catch (error) {
        if (error.code === "not_logged_in") throw error;
        return undefined; // the reminder can wait for the next time
      }
    },
    show: (code) => {
      document.getElementById("reminder").hidden = code?.created_time !== null;
    },
  },
  sessions: {
    load: () => send("GET", "/user/sessions", undefined, isList),
    show: showSessions,
  },
  "recovery-code": {
    load: async () => newCode ?? send("GET", "/user/recovery-code", undefined, hasTime),
    show: showCode,
  },
};

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const name = form.dataset.action;
  if (name === "reauthenticate") return reauthenticate(form);
  if (busy) return;
  if (name === "retry") return load(form);
  const action = ACTIONS[name];
  // A phone's keyboard puts a space behind a name that it completes. A password may begin and end with spaces.
  if (form.elements.username) form.elements.username.value = form.elements.username.value.trim();
  const data = Object.fromEntries(new FormData(form));
  clearMessages();
  conceal(form); // a password that is shown would be kept as a text by the browser
  busy = true;
  setBusy(form, action.busy);
  try {
    await action.send(data, form);
    // A user who wanted the form for the password, and had to log in first, gets it now.
    if (!(VIEWS_OF_GUESTS.includes(name) && VIEWS_OF_USERS.includes(wanted()))) {
      history.replaceState(null, "", `#${action.view ?? (user ? "account" : "login")}`);
    }
    const shown = await render();
    form.reset();
    if (shown) notice.textContent = action.done(form);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await explain(error, form);
  } finally {
    busy = false;
    setBusy(form, "");
  }
}

/* Log in by a request that does so. */
async function enter(path, data) {
  const answer = await send("POST", path, data);
  await checkCookie();
  become(answer);
}

function become(someone) {
  if (someone?.id !== user?.id) newCode = null;
  user = someone;
}

/* Send a request that needs a recent login: ask for the password where the API does, and send it again. */
async function sendFresh(...request) {
  try {
    return await send(...request);
  } catch (error) {
    if (error.code !== "reauthentication_required") throw error;
  }
  await askForPassword();
  return sendFresh(...request);
}

/* Show the dialog until the password was right; throw a Problem when it is closed before. */
function askForPassword() {
  dialog.showModal();
  return new Promise((resolve, reject) => {
    asking = { resolve, reject };
  });
}

async function reauthenticate(form) {
  const asked = asking;
  if (!asked || form.getAttribute("aria-busy") === "true") return;
  const data = Object.fromEntries(new FormData(form));
  clearMessages(dialog);
  conceal(form);
  setBusy(form, ACTIONS.reauthenticate.busy);
  let problem = null;
  try {
    await send("POST", "/user/reauthenticate", data);
    asked.resolve();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
    if (problem.code === "not_logged_in") asked.reject(problem);
  }
  if (asking !== asked) return; // the dialog was closed meanwhile
  setBusy(form, "");
  if (problem && problem.code !== "not_logged_in") explain(problem, form);
  else dialog.close();
}

function leaveDialog() {
  const form = dialog.querySelector("form");
  asking?.reject(new Problem({ code: "cancelled" })); // without effect on who has gone on
  asking = null;
  setBusy(form, "");
  clearMessages(dialog);
  form.reset();
  conceal(form);
}

/* Throw a Problem when somebody else is logged in by now, as in another window: what follows is not for them. */
async function checkUser() {
  const now = await send("GET", "/user");
  if (now.id === user.id) return;
  become(now);
  throw new Problem({ code: "other_user" });
}

/* Throw a Problem when the browser has not kept the cookie of a login; it says nothing of that by itself. */
async function checkCookie() {
  try {
    await send("GET", "/user");
  } catch (error) {
    if (error.code !== "not_logged_in") return; // the login was answered: what is wrong now, the next request says
    const detail = location.protocol === "http:"
      ? "Your browser does not keep you logged in over http://. Open this page with https:// and log in there."
      : "Your browser did not keep you logged in. Allow cookies for this page and log in again.";
    throw new Problem({ code: "no_cookie", detail });
  }
}

/* Say what went wrong with a form: beside its fields where the problem names them, else above it. */
async function explain(problem, form) {
  if (problem.code === "cancelled") return;
  if (problem.code === "not_logged_in") return endSession();
  if (problem.code === "other_user") return showOtherUser();
  if (problem.code === "reauthentication_required") {
    askForCurrentPassword(true);
    return document.getElementById("password-current").focus();
  }
  const { wrong } = ACTIONS[form.dataset.action];
  const errors = problem.code === "invalid_credentials" && wrong ? [wrong] : problem.errors;
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
  if (others.length || !errors.length) warn(problem, others, form.parentElement.querySelector(":scope > .problem") ?? warning);
  const first = form.querySelector("[aria-invalid]");
  if (first) first.focus();
  else if (problem.code === "invalid_credentials") form.elements.password.select();
}

/* Say above the form what is wrong with a request as a whole. */
function warn(problem, more = [], box = warning) {
  const lines = [problem.message, ...more];
  if (problem.wait) lines.push(`Try again in ${problem.wait}.`);
  if (problem.requestId) lines.push(`request_id: ${problem.requestId}`);
  box.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
  box.scrollIntoView({ block: "nearest" });
}

/* Bring the login form back; the name that was typed for another one stays in its form. */
async function endSession() {
  document.getElementById("login-username").value = user?.username ?? "";
  become(null);
  await render();
  notice.textContent = "You have been logged out. Log in to continue.";
}

async function showOtherUser(options) {
  if (await render(options)) notice.textContent = `You are logged in as ${user.username}.`;
}

function askForCurrentPassword(needed) {
  current.hidden = !needed;
  document.getElementById("password-current").disabled = !needed;
}

function setBusy(form, text) {
  form.setAttribute("aria-busy", String(text !== ""));
  const area = form.closest("dialog") ?? main;
  (area === main ? progress : area.querySelector("[role=status]")).textContent = text;
  // A button that is disabled outright would lose the focus.
  for (const button of area.querySelectorAll("form > button:not([type])")) button.setAttribute("aria-disabled", String(text !== ""));
  const button = form.querySelector(":scope > button");
  button.dataset.text ??= button.textContent;
  button.textContent = text || button.dataset.text;
}

function clearMessages(area = document) {
  for (const element of area.querySelectorAll(".notice, .error")) element.replaceChildren();
  for (const input of area.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
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

/* Show the view that fits, once what it has to show is there; return whether it came to that. */
async function render({ focus = true } = {}) {
  const rendering = ++renderings;
  dialog.close();
  let problem = null;
  let content;
  if (CONTENTS[viewNow()]) {
    main.setAttribute("aria-busy", "true");
    try {
      content = await CONTENTS[viewNow()].load();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem = error;
    }
    if (rendering !== renderings) return false;
    if (problem?.code === "not_logged_in") {
      await endSession();
      return false;
    }
    if (problem) known = false;
  }
  const view = viewNow();
  if (view !== "recovery-code") newCode = null;
  for (const section of document.querySelectorAll("[data-view]")) {
    section.hidden = section.dataset.view !== view;
    if (section.hidden) forget(section);
  }
  heading.textContent = HEADINGS[view];
  document.title = `${HEADINGS[view]} · demo-user`;
  main.removeAttribute("aria-busy");
  if (user) showUser();
  CONTENTS[view]?.show(content);
  if (view === "recover") {
    document.getElementById("recover-username").value ||= document.getElementById("login-username").value;
  }
  if (focus) heading.focus();
  if (problem) warn(problem);
  return !problem;
}

function showUser() {
  const since = document.getElementById("account-since");
  for (const id of ["account-username", "delete-name"]) document.getElementById(id).textContent = user.username;
  for (const id of ["password-username", "reauthentication-username"]) document.getElementById(id).value = user.username;
  since.dateTime = user.signup_time;
  since.textContent = day(user.signup_time);
}

function day(time) {
  return new Date(time).toLocaleDateString("en-GB", { dateStyle: "long" });
}

/* Return how long ago a time is, in words; the API knows it to 10 minutes. */
function ago(time) {
  const minutes = (Date.now() - Date.parse(time)) / 60_000;
  if (!(minutes >= 10)) return "a few minutes ago";
  const [amount, unit] = minutes < 60 ? [minutes, "minute"] : minutes < 24 * 60 ? [minutes / 60, "hour"] : [minutes / 60 / 24, "day"];
  return new Intl.RelativeTimeFormat("en").format(-Math.floor(amount), unit);
}

function showSessions(sessions) {
  const items = [...sessions].sort((one, other) => other.current - one.current).map(toItem);
  document.getElementById("sessions").replaceChildren(...items);
  const others = sessions.some((session) => !session.current);
  document.getElementById("end-others").hidden = !others;
  document.getElementById("no-others").hidden = others;
}

function toItem(session) {
  const item = document.getElementById("session").content.cloneNode(true);
  const [device, hint, form, button, time] = [".device", ".hint", "form", "button", "time"].map((css) => item.querySelector(css));
  device.textContent = session.client || "Unknown device";
  device.id = `device-${session.id}`;
  hint.id = `hint-${session.id}`;
  hint.firstElementChild.hidden = !session.current;
  hint.lastElementChild.hidden = session.current;
  time.dateTime = session.last_activity;
  time.textContent = ago(session.last_activity);
  form.dataset.action = session.current ? "logout" : "end";
  form.dataset.id = session.id;
  form.dataset.device = device.textContent;
  button.id = `end-${session.id}`;
  button.setAttribute("aria-labelledby", `${button.id} ${device.id}`);
  button.setAttribute("aria-describedby", hint.id);
  return item;
}

function showCode({ recovery_code: code, created_time: since }) {
  document.getElementById("new-code").hidden = !code;
  document.getElementById("code-status").hidden = Boolean(code);
  document.getElementById("code-since").textContent = since === null ? "None" : `Created ${day(since)}`;
  document.getElementById("replaces").hidden = document.getElementById("delete-code").hidden = since === null;
  forgetCode();
  if (!code) return;
  const address = location.origin + location.pathname;
  document.getElementById("code-address").textContent = address;
  document.getElementById("code-username").textContent = user.username;
  document.getElementById("code").textContent = code;
  const text = `Recovery code

Address:  ${address}
Username: ${user.username}
Code:     ${code}
Created:  ${day(since)}

If you forget your password, open the address, choose "Forgot your password?" and enter the code. It works once.
`;
  document.getElementById("download").href = `data:text/plain;charset=utf-8,${encodeURIComponent(text)}`;
}

function forgetCode() {
  for (const id of ["code", "copied"]) document.getElementById(id).textContent = "";
  document.getElementById("download").removeAttribute("href");
}

/* Copy the code; where a browser does not let a page do so, as over http://, select it. */
async function copyCode() {
  const code = document.getElementById("code");
  const copied = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(code.textContent);
    copied.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(code);
    copied.textContent = "Your browser does not let this page copy. The code is selected: copy it yourself.";
  }
}

/* Leave no secret in a section that is hidden. */
function forget(section) {
  conceal(section);
  for (const input of section.querySelectorAll("[type=password], #recover-code")) input.value = "";
  if (section.contains(current)) askForCurrentPassword(false);
  if (section.dataset.view === "recovery-code") forgetCode();
}

/* Ask who is logged in, at first or by a form; only then is it known which view is the right one. */
async function load(form) {
  clearMessages();
  busy = Boolean(form);
  if (form) setBusy(form, "Trying again…");
  let problem = null;
  try {
    become(await send("GET", "/user"));
    known = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
    known = problem.code === "not_logged_in";
    if (known) become(null);
  }
  await render({ focus: Boolean(form) });
  busy = false;
  if (form) setBusy(form, "");
  if (problem && !known) warn(problem);
}

/* Look again when somebody comes back to this page: it may be a user, another one, or nobody by now. */
async function lookAgain() {
  if (document.visibilityState !== "visible" || !known || busy) return;
  const before = user;
  let now;
  try {
    now = await send("GET", "/user");
  } catch (error) {
    if (error.code === "not_logged_in" && user && user === before && !busy) endSession();
    return;
  }
  if (user !== before || busy || now.username === user?.username) return;
  become(now);
  showOtherUser({ focus: false });
}

document.addEventListener("submit", submit);
document.addEventListener("click", (event) => {
  const button = event.target.closest(".show");
  if (button) reveal(button, button.firstElementChild.textContent === "Show");
});
document.addEventListener("visibilitychange", lookAgain);
document.getElementById("cancel").addEventListener("click", () => dialog.close());
document.getElementById("copy").addEventListener("click", copyCode);
document.getElementById("print").addEventListener("click", () => window.print());
dialog.addEventListener("close", leaveDialog);
window.addEventListener("hashchange", () => {
  if (!known) return;
  clearMessages();
  render();
});
load();
