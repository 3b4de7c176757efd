// The page at /: sign up, log in, see and change the account, log out, with the API that everybody uses.

const SECONDS_TO_WAIT = 60;
const SECONDS_TO_NOTICE = 2;
const TITLES = { login: "Log in", signup: "Sign up", account: "Your account" };
const $ = (id) => document.getElementById(id);

/** The user who is logged in, as the API gives it, or null. */
let user = null;

/** An error answer of the API, or no answer: what to tell people, and a message for each field at fault. */
class Problem extends Error {
  constructor(detail, { code, errors = [] } = {}) {
    super(detail);
    this.code = code;
    this.errors = errors;
  }
}

/** Call the API; return what it answers, or throw a Problem. */
async function call(method, path = "", body) {
  let response, text;
  try {
    response = await fetch(`/api/user${path}`, {
      method,
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(SECONDS_TO_WAIT * 1000),
    });
    text = await response.text();
  } catch {
    throw new Problem("The service cannot be reached. Check your connection, then try again.");
  }
  let answer;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    answer = undefined;
  }
  if (response.ok && answer !== undefined) return answer;
  if (!answer?.code) throw new Problem(`Something between here and the service answered ${response.status}. Try again later.`);
  throw new Problem(explain(response, answer), answer);
}

/** Return the text for a problem: its detail, when to try again, and what to quote. */
function explain(response, { status, detail, request_id }) {
  const seconds = Number(response.headers.get("Retry-After"));
  if (seconds > 90) return `${detail} That will be possible in ${Math.ceil(seconds / 60)} minutes.`;
  if (seconds > 0) return `${detail} That will be possible in ${seconds} seconds.`;
  return status === 500 ? `${detail} (${request_id})` : detail;
}

/** Show the view that fits the address and whether somebody is logged in. */
function show(message = "") {
  const asked = location.hash.slice(1);
  const view = user ? "account" : asked === "signup" ? "signup" : "login";
  for (const name of Object.keys(TITLES)) $(name).hidden = name !== view;
  document.title = `${TITLES[view]} – demo-user`;
  $("status").textContent = message;
  if (user) fill();
  if (user && asked === "password") $("new-password").focus();
  return $(`${view}-title`);
}

/** Put the user into the account view. */
function fill() {
  $("account-username").textContent = $("password-username").value = user.username;
  const since = new Date(user.signup_time);
  $("account-since").dateTime = user.signup_time;
  $("account-since").textContent = since.toLocaleDateString(undefined, { dateStyle: "long" });
}

/** Leave the account and what was typed there; the login form knows the name. */
function forget(message) {
  $("login-username").value = user?.username ?? "";
  user = null;
  for (const form of document.forms) if (form.id !== "login-form") form.reset();
  $("current").hidden = true;
  show(message).focus();
}

/** Go to the account of a user who has just come in. */
function enter(who, message) {
  user = who;
  for (const form of document.forms) form.reset();
  if (location.hash !== "#password") {
    history.replaceState(null, "", "#account");
    show(message).focus();
  } else show(message);
}

/** Mark the fields at fault and move the focus to the first; say above them what is about none of them. */
function complain(form, problem) {
  let first;
  for (const { field, message } of problem.errors) {
    const input = form.elements[field];
    if (!input) continue;
    input.setAttribute("aria-invalid", "true");
    $(`${input.id}-error`).textContent = message;
    first ??= input;
  }
  if (!first) form.querySelector(".problem").textContent = problem.message;
  first?.focus();
}

/** Take away what the last try was told. */
function clear(form) {
  $("status").textContent = form.querySelector(".problem").textContent = "";
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const error of form.querySelectorAll(".error")) error.textContent = "";
}

/** Let a form do something, once at a time, and show that it is doing it. */
function on(id, act) {
  const form = $(id);
  const button = form.querySelector("button[type=submit]");
  const text = button.textContent;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    clear(form);
    form.setAttribute("aria-busy", "true");
    button.setAttribute("aria-disabled", "true");
    button.textContent = button.dataset.busy;
    const slow = setTimeout(() => ($("status").textContent = "Still working…"), SECONDS_TO_NOTICE * 1000);
    try {
      await act(Object.fromEntries(new FormData(form)), form);
    } catch (problem) {
      $("status").textContent = "";
      if (!(problem instanceof Problem)) throw problem;
      if (user && problem.code === "not_logged_in") forget("Your session has ended. Log in to go on.");
      else complain(form, problem);
    } finally {
      clearTimeout(slow);
      form.removeAttribute("aria-busy");
      button.removeAttribute("aria-disabled");
      button.textContent = text;
    }
  });
}

on("login-form", async (fields) => enter(await call("POST", "/login", fields), "You are logged in."));
on("signup-form", async (fields) => enter(await call("POST", "/signup", fields), "Your account is made, and you are logged in."));

on("rename-form", async (fields, form) => {
  user = await call("PUT", "", fields);
  form.reset();
  fill();
  $("status").textContent = `Your name is now ${user.username}.`;
});

on("password-form", async ({ password, current_password }, form) => {
  const asked = !$("current").hidden;
  try {
    user = await call("PUT", "", asked ? { password, current_password } : { password });
  } catch (problem) {
    if (problem.code === "reauthentication_required") {
      $("current").hidden = false;
      problem.errors = [{ field: "current_password", message: "You logged in a while ago: type your current password as well." }];
    } else if (problem.code === "invalid_credentials") {
      problem.errors = [{ field: "current_password", message: "That is not your current password." }];
    }
    throw problem;
  }
  form.reset();
  $("current").hidden = true;
  $("status").textContent = "Your password is changed, and every other session of yours has ended.";
});

on("logout-form", async () => {
  await call("POST", "/logout");
  history.replaceState(null, "", "#login");
  forget("You are logged out.");
});

addEventListener("hashchange", () => show().focus());

try {
  user = await call("GET");
  show();
} catch (problem) {
  show(problem.code === "not_logged_in" ? "" : problem.message);
}
