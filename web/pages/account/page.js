/* The page: shows what fits who is logged in and the part of the address after "#", and sends the forms to the API. */

import { Problem, hasCode, hasCount, hasName, hasTime, isEmpty, isList, isOptions, send } from "./api.js";

const HEADINGS = {
  login: "Log in",
  signup: "Sign up",
  recover: "Forgot your password?",
  account: "Your account",
  name: "Change your username",
  password: "Change your password",
  sessions: "Where you are logged in",
  passkeys: "Passkeys",
  "recovery-code": "Recovery code",
  delete: "Delete your account",
  unavailable: "Not available",
};
const VIEWS_OF_GUESTS = ["login", "signup", "recover"];
const VIEWS_OF_USERS = ["account", "name", "password", "sessions", "recovery-code", "delete"];

// Where the service has passkeys, it says so in the page. Whatever keeps them away keeps nothing else away.
const passkeys = document.querySelector("meta[name=passkey-origins]") && await import("./passkeys.js").catch(() => null);
const NOT_ACCEPTED = "The passkey was not accepted. Try again, or enter your password.";
const NO_REMINDER = "no-passkey-reminder"; // in the browser's storage, once a user does not want it
const MAX_FAILED_OFFERS = 3; // a password manager that chooses a passkey by itself shall not do so for ever

const heading = document.getElementById("heading");
const main = heading.parentElement;
const notice = document.getElementById("status");
const warning = document.getElementById("warning");
const progress = document.getElementById("progress");
const current = document.getElementById("current");
const dialog = document.getElementById("reauthentication");

let user = null; // who is logged in, as the API returns it
let known = false; // whether the API has said who is logged in
let busy = false; // whether a form is on its way: there is never a second one
let newCode = null; // a recovery code while it is shown, which is only once
let renderings = 0; // how often a view was asked for: only the last one is shown
let shown = 0; // the one that is shown
let submitted = 0; // the one that was shown when the form that is on its way was submitted
let failedOffers = 0; // how often a passkey that was offered in the login form has not logged its user in
let usedPassword = false; // whether the user has just logged in by a password: only then are passkeys recommended
let asking = null; // the promise of who waits for the password in the dialog

/* What each form does: what is said while it is under way, the request, what is said when it is done, the view then
   (else the account or the login), and what is wrong when the API takes the credentials for wrong. */
const ACTIONS = {
  login: {
    busy: "Logging in…",
    send: async (data) => {
      await enter("/user/login", data);
      usedPassword = true;
    },
    done: () => "",
  },
  "passkey-login": {
    busy: "Waiting for your passkey…",
    send: async ({ credential }) => enter("/passkeys/login", { credential: credential ?? await passkeys.ask() }),
    done: () => "",
    wrong: { message: NOT_ACCEPTED },
  },
  signup: {
    busy: "Signing up…",
    send: (data) => enter("/user/signup", data),
    done: () => `Welcome, ${user.username}.`,
  },
  recover: {
    busy: "Setting…",
    send: async (data) => {
      await enter("/user/recover", data);
      return (await listPasskeys()).length;
    },
    done: (form, count) => "Your password has been changed. You have been logged out on all other devices, and the recovery code is used up."
      + keptPasskeys(count),
    wrong: { field: "recovery_code", message: "The username or the recovery code is wrong." },
  },
  name: {
    busy: "Changing…",
    send: async (data) => {
      await checkUser();
      become(await send("PUT", "/user", data));
      passkeys?.tell(user);
    },
    done: () => `Your username is now ${user.username}.`,
  },
  password: {
    busy: "Changing…",
    send: async (data) => {
      await checkUser();
      try {
        become(await send("PUT", "/user", data));
      } catch (error) {
        // The form asks for the current password in place; who has passkeys may have forgotten it.
        if (error.code !== "reauthentication_required" || !(await canUsePasskey())) throw error;
        await askForPassword();
        become(await send("PUT", "/user", data));
      }
    },
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
      await checkUser();
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
    send: async () => {
      await checkUser();
      await sendFresh("DELETE", "/user/sessions", undefined, hasCount);
    },
    done: () => "You are logged out everywhere else.",
    view: "sessions",
  },
  "add-passkey": {
    busy: "Waiting for your device…",
    send: async () => {
      await checkUser();
      const options = await sendFresh("POST", "/passkeys/registration", undefined, isOptions);
      const credential = await passkeys.create(options);
      try {
        return await sendFresh("POST", "/passkeys", { credential }, hasName);
      } finally {
        passkeys.tell(user); // also of one that was not accepted
      }
    },
    done: (form, passkey) => `Your passkey has been added. It is called “${passkey.name}”.`,
    view: "passkeys",
    wrong: { message: "The passkey was not accepted. Try again." },
  },
  "rename-passkey": {
    busy: "Saving…",
    send: (data, form) => send("PUT", `/passkeys/${form.dataset.id}`, data, hasName),
    done: (form, passkey) => `The passkey is now called “${passkey.name}”.`,
    view: "passkeys",
  },
  "delete-passkey": {
    busy: "Deleting…",
    send: async (data, form) => {
      await checkUser();
      try {
        await sendFresh("DELETE", `/passkeys/${form.dataset.id}`, undefined, isEmpty);
      } catch (error) {
        if (error.code !== "not_found") throw error; // it was deleted meanwhile
      }
      passkeys.tell(user);
    },
    done: (form) => `The passkey “${form.dataset.name}” has been deleted.`,
    view: "passkeys",
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
    send: async () => {
      await checkUser();
      await sendFresh("DELETE", "/user/recovery-code", undefined, isEmpty);
    },
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
      const known = await passkeys?.accepted();
      await sendFresh("DELETE", "/user", undefined, isEmpty);
      passkeys?.forget(known);
      become(null);
    },
    done: () => "Your account has been deleted.",
  },
  reauthenticate: {
    busy: "Checking…",
    send: (data) => send("POST", "/user/reauthenticate", data),
    wrong: { field: "password", message: "This is not your password." },
  },
  "passkey-reauthenticate": {
    busy: "Waiting for your passkey…",
    send: async () => send("POST", "/passkeys/reauthenticate", { credential: await passkeys.ask() }),
    wrong: { message: NOT_ACCEPTED },
  },
};

/* What a view has to know before it is shown, and how it shows that. */
const CONTENTS = {
  account: {
    load: async () => {
      try {
        const code = send("GET", "/user/recovery-code", undefined, hasTime);
        const [{ created_time: since }, list] = await Promise.all([code, listPasskeys()]);
        return { since, list, recommended: usedPassword && !list.length && await recommendsPasskeys() };
      } catch (error) {
        if (error.code === "not_logged_in") throw error;
        return {}; // the reminder can wait for the next time
      }
    },
    show: ({ since, list, recommended }) => {
      document.getElementById("passkeys-link").hidden = !passkeys?.supported && !list?.length;
      document.getElementById("passkey-reminder").hidden = !recommended;
      document.getElementById("reminder").hidden = recommended || since !== null;
    },
  },
  sessions: {
    load: () => send("GET", "/user/sessions", undefined, isList),
    show: showSessions,
  },
  passkeys: {
    load: () => send("GET", "/passkeys", undefined, isList),
    show: showPasskeys,
  },
  "recovery-code": {
    load: async () => newCode ?? send("GET", "/user/recovery-code", undefined, hasTime),
    show: showCode,
  },
};

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  if (dialog.contains(form)) return reauthenticate(form);
  if (busy) return;
  if (form.dataset.action === "retry") return load(form);
  // A phone's keyboard puts a space behind a name that it completes. A password may begin and end with spaces.
  if (form.elements.username) form.elements.username.value = form.elements.username.value.trim();
  return perform(form, Object.fromEntries(new FormData(form)));
}

/* Do what a form is for; there is never a second one meanwhile. */
async function perform(form, data) {
  if (busy) return;
  const action = ACTIONS[form.dataset.action];
  const isGuest = user === null;
  clearMessages();
  conceal(form); // a password that is shown would be kept as a text by the browser
  busy = true;
  submitted = shown;
  setBusy(form, action.busy);
  try {
    const result = await action.send(data, form);
    // A user who wanted the form for the password, and had to log in first, gets it now.
    if (!(isGuest && VIEWS_OF_USERS.includes(wanted()))) {
      history.replaceState(null, "", `#${action.view ?? (user ? "account" : "login")}`);
    }
    const shown = await render();
    form.reset();
    if (shown) notice.textContent = action.done(form, result);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (data.credential) failedOffers += 1;
    await explain(error, form);
  } finally {
    busy = false;
    setBusy(form, "");
    offerPasskeys();
  }
}

/* Log in by a request that does so. */
async function enter(path, data) {
  const loggedIn = await send("POST", path, data);
  await checkCookie();
  become(loggedIn);
  passkeys?.tell(user);
}

function become(someone) {
  if (someone?.id !== user?.id) {
    newCode = null;
    usedPassword = false;
  }
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

/* Show the dialog until the password or a passkey was right; throw a Problem when it is closed before. */
async function askForPassword() {
  const hasPasskey = await canUsePasskey();
  if (submitted !== renderings) throw new Problem({ code: "cancelled" }); // the user has gone elsewhere meanwhile
  document.getElementById("use-passkey").hidden = !hasPasskey;
  document.getElementById("reauthentication-ways").textContent = hasPasskey ? "Enter your password or use a passkey" : "Enter your password";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    asking = { resolve, reject };
  });
}

async function reauthenticate(form) {
  const asked = asking;
  if (!asked || dialog.querySelector("[aria-busy=true]")) return;
  const action = ACTIONS[form.dataset.action];
  const data = Object.fromEntries(new FormData(form));
  clearMessages(dialog);
  conceal(form);
  setBusy(form, action.busy);
  let problem = null;
  try {
    await action.send(data);
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
  asking?.reject(new Problem({ code: "cancelled" })); // without effect on who has gone on
  asking = null;
  passkeys?.withdraw();
  clearMessages(dialog);
  for (const form of dialog.querySelectorAll("form")) {
    setBusy(form, "");
    form.reset();
    conceal(form);
  }
}

/* Return the passkeys of the user, none where it is not known. */
async function listPasskeys() {
  try {
    return passkeys ? await send("GET", "/passkeys", undefined, isList) : [];
  } catch {
    return [];
  }
}

function keptPasskeys(count) {
  if (!count) return "";
  if (count === 1) return " You still have 1 passkey. Delete it if it is not yours.";
  return ` You still have ${count} passkeys. Delete those that are not yours.`;
}

async function canUsePasskey() {
  return Boolean(passkeys?.supported) && (await listPasskeys()).length > 0;
}

async function recommendsPasskeys() {
  return Boolean(await passkeys?.isOnDevice()) && !isReminderDeclined();
}

/* Return whether the user wants no reminder in this browser, or the browser would not remember it. */
function isReminderDeclined() {
  try {
    return localStorage.getItem(NO_REMINDER) !== null;
  } catch {
    return true;
  }
}

function declineReminder() {
  document.getElementById("passkey-reminder").hidden = true;
  heading.focus();
  localStorage.setItem(NO_REMINDER, "");
}

/* Let the browser offer passkeys in the username field of the login form, and nowhere else. */
function offerPasskeys() {
  if (!passkeys || busy) return;
  if (viewNow() !== "login" || failedOffers === MAX_FAILED_OFFERS) return passkeys.withdraw();
  passkeys.offer((credential) => perform(document.getElementById("passkey-login"), { credential }));
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
    if (error.code !== "not_logged_in") return; // the login worked: what is wrong now, the next request says
    const detail = location.protocol === "http:"
      ? "Your browser does not keep you logged in over http://. Open this page with https:// and log in there."
      : "Your browser did not keep you logged in. Allow cookies for this page and log in again.";
    throw new Problem({ code: "no_cookie", detail });
  }
}

/* Say what went wrong with a form: beside its fields where the problem names them, else above it. */
async function explain(problem, form) {
  if (problem.code === "cancelled") return;
  if (problem.code === "no_passkey") {
    (form.parentElement.querySelector(":scope > [role=status].notice") ?? notice).textContent = problem.message;
    return;
  }
  if (problem.code === "not_logged_in") return endSession();
  if (problem.code === "other_user") return showOtherUser();
  if (problem.code === "reauthentication_required") {
    askForCurrentPassword(true);
    return document.getElementById("password-current").focus();
  }
  const { wrong } = ACTIONS[form.dataset.action];
  const isWrong = problem.code === "invalid_credentials" && wrong;
  if (isWrong && !wrong.field) problem.message = wrong.message;
  const errors = isWrong?.field ? [wrong] : problem.errors;
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
  else if (problem.code === "invalid_credentials") form.elements.password?.select();
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
  (area === main ? progress : area.querySelector(".unseen[role=status]")).textContent = text;
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
  shown = rendering;
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
  failedOffers = 0;
  offerPasskeys();
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
  if (minutes >= 60 * 24 * 60) return `on ${day(time)}`;
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

function showPasskeys(list) {
  document.getElementById("passkeys").replaceChildren(...list.map(toPasskey));
  document.getElementById("no-passkeys").hidden = list.length > 0;
  document.getElementById("add-passkey").hidden = !passkeys.supported;
}

function toPasskey(passkey) {
  const item = document.getElementById("passkey").content.cloneNode(true);
  const [name, hint, added, used, rename, remove] = [".device", ".hint", ".added", ".used", ".rename", ".remove"].map((css) => item.querySelector(css));
  const [removal, renaming] = item.querySelectorAll("form");
  const [label, input, error] = renaming.querySelector(".field").children;
  name.textContent = passkey.name;
  added.dateTime = passkey.created_time;
  added.textContent = day(passkey.created_time);
  used.textContent = passkey.last_used_time === null ? "Not used yet" : `Last used ${ago(passkey.last_used_time)}`;
  for (const [key, element] of Object.entries({ name, hint, rename, remove, renaming, input })) element.id = `passkey-${key}-${passkey.id}`;
  for (const button of [rename, remove]) {
    button.setAttribute("aria-labelledby", `${button.id} ${name.id}`);
    button.setAttribute("aria-describedby", hint.id);
  }
  rename.setAttribute("aria-controls", renaming.id);
  label.htmlFor = input.id;
  input.setAttribute("value", passkey.name);
  error.id = `${input.id}-error`;
  input.setAttribute("aria-describedby", error.id);
  for (const form of [removal, renaming]) Object.assign(form.dataset, { id: passkey.id, name: passkey.name });
  return item;
}

/* Show or hide the form for the name of a passkey. */
function toggleRenaming(button) {
  const form = document.getElementById(button.getAttribute("aria-controls"));
  form.hidden = !form.hidden;
  button.setAttribute("aria-expanded", String(!form.hidden));
  form.reset();
  clearMessages(form);
  if (!form.hidden) form.elements.name.select();
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
  const button = event.target.closest(".show, .rename");
  if (button?.matches(".show")) reveal(button, button.firstElementChild.textContent === "Show");
  else if (button) toggleRenaming(button);
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible" || !known || busy) return;
  offerPasskeys();
  lookAgain();
});
document.getElementById("cancel").addEventListener("click", () => dialog.close());
document.getElementById("copy").addEventListener("click", copyCode);
document.getElementById("print").addEventListener("click", () => window.print());
document.getElementById("decline").addEventListener("click", declineReminder);
dialog.addEventListener("close", leaveDialog);
window.addEventListener("hashchange", () => {
  if (!known) return;
  passkeys?.withdraw();
  clearMessages();
  render();
});
if (passkeys) {
  VIEWS_OF_USERS.push("passkeys");
  document.getElementById("delete-passkeys").hidden = false;
}
if (passkeys?.supported) {
  document.getElementById("passkey-login").hidden = false;
  document.getElementById("login-username").autocomplete = "username webauthn";
}
load();
