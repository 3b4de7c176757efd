/* Passkeys, as the page uses them: what this browser can do, and what it is asked to do. Only a page of a service
   that has passkeys imports this. */

import { Problem, isAccepted, isOptions, send } from "./api.js";

// Part of its validity, since using a passkey takes its time.
const CHALLENGE_PART = 0.8;
const NO_PASSKEY_USED = "No passkey was used. Try again, or enter your password.";
const NO_PASSKEY_ADDED = "No passkey was added.";
const EXISTS = "This device already has a passkey for your account.";
const CANNOT_USE = "Your browser could not use a passkey. Enter your password.";
const CANNOT_ADD = "Your browser could not add a passkey. Try another browser or device.";

// Where the service accepts passkeys. A browser has none for an IP address, and none over http://.
const origins = document.querySelector("meta[name=passkey-origins]").content.split(" ");
export const supported = origins.includes(location.origin) && "PublicKeyCredential" in window;

let pending = null; // the AbortController of the request that the browser has: it takes one at a time
let offered = false; // whether that request is an offer in the username field
let told = Promise.resolve(); // when the browser has been told all that it should know by now

/* Offer the passkeys in the username field, until `withdraw`; give the one that is chosen, as JSON, to `use`. */
export async function offer(use) {
  if (!supported || offered) return;
  const { signal } = begin();
  offered = true;
  let timer;
  try {
    if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
    const options = await send("POST", "/passkeys/authentication", undefined, isOptions);
    if (signal.aborted) return;
    timer = setTimeout(() => replace(use), options.timeout * CHALLENGE_PART);
    const credential = await navigator.credentials.get({ publicKey: toRequest(options), mediation: "conditional", signal });
    if (!signal.aborted) use(toJSON(credential));
  } catch {
    // The browser cannot do it, or the service is away: there is the button, and the next view of the form.
  } finally {
    clearTimeout(timer);
    if (!signal.aborted) withdraw();
  }
}

/* Offer them with a new challenge; in a window that nobody sees, that can wait. */
function replace(use) {
  withdraw();
  if (document.visibilityState === "visible") offer(use);
}

/* End the request that the browser has, if any. */
export function withdraw() {
  pending?.abort();
  pending = null;
  offered = false;
}

function begin() {
  withdraw();
  pending = new AbortController();
  return pending;
}

/* Have the user choose a passkey; return it as JSON. Throws Problem. */
export async function ask() {
  const controller = begin();
  const options = await send("POST", "/passkeys/authentication", undefined, isOptions);
  const { signal } = controller;
  try {
    signal.throwIfAborted();
    return await answer(controller, options, navigator.credentials.get({ publicKey: toRequest(options), signal }));
  } catch (error) {
    throw toProblem(error, signal, NO_PASSKEY_USED, CANNOT_USE);
  }
}

/* Have the user make a passkey by options of the API; return it as JSON. Throws Problem. */
export async function create(options) {
  await told; // else the browser could be told of the passkeys without this one
  const controller = begin();
  const { signal } = controller;
  try {
    return await answer(controller, options, navigator.credentials.create({ publicKey: toCreation(options), signal }));
  } catch (error) {
    if (error.name === "InvalidStateError") throw new Problem({ code: "no_passkey", detail: EXISTS });
    throw toProblem(error, signal, NO_PASSKEY_ADDED, CANNOT_ADD);
  }
}

/* Return the credential of a request as JSON; the request ends with its challenge, whatever a password manager does. */
async function answer(controller, options, request) {
  const { signal } = controller;
  const timer = setTimeout(() => controller.abort(new DOMException("", "TimeoutError")), options.timeout);
  const ended = new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  try {
    return toJSON(await Promise.race([request, ended]));
  } finally {
    clearTimeout(timer);
  }
}

/* Return what an error of the browser means to a user. Cancelling is none; browsers do not tell it from a timeout. */
function toProblem(error, signal, cancelled, failed) {
  if (signal.reason?.name === "AbortError") return new Problem({ code: "cancelled" }); // by this page
  if (signal.aborted || error.name === "NotAllowedError") return new Problem({ code: "no_passkey", detail: cancelled });
  return new Problem({ code: "passkey_failed", detail: failed });
}

/* Return which passkeys the service has of the user, or null where the browser has no use for it. */
export async function accepted() {
  if (!supported || !PublicKeyCredential.signalAllAcceptedCredentials) return null;
  try {
    const list = await send("GET", "/passkeys/accepted", undefined, isAccepted);
    return list.userId === null ? null : list;
  } catch {
    return null;
  }
}

/* Tell the browser which passkeys the user has by now, so that it offers no other, and the username to show. */
export function tell({ username }) {
  told = told.then(async () => {
    const list = await accepted();
    if (!list) return;
    const { rpId, userId } = list;
    signal("signalAllAcceptedCredentials", list);
    signal("signalCurrentUserDetails", { rpId, userId, name: username, displayName: username });
  });
}

/* Tell the browser that none of a list of `accepted` is of use any more. */
export function forget(list) {
  if (list) signal("signalAllAcceptedCredentials", { ...list, allAcceptedCredentialIds: [] });
}

async function signal(method, details) {
  try {
    await PublicKeyCredential[method]?.(details);
  } catch {
    // The page goes on as well without it.
  }
}

/* Return whether this device itself can have a passkey, as by a fingerprint. */
export async function isOnDevice() {
  try {
    return supported && await PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable();
  } catch {
    return false;
  }
}

// Between JSON and bytes. Browsers have functions for it since 2025, which password managers do not always support.

function toRequest(options) {
  return { ...options, challenge: toBytes(options.challenge), allowCredentials: options.allowCredentials.map(toDescriptor) };
}

function toCreation(options) {
  return {
    ...options,
    challenge: toBytes(options.challenge),
    user: { ...options.user, id: toBytes(options.user.id) },
    excludeCredentials: options.excludeCredentials.map(toDescriptor),
  };
}

function toDescriptor({ type, id }) {
  return { type, id: toBytes(id) };
}

function toJSON({ id, rawId, type, response }) {
  const members = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const present = members.filter((name) => response[name]).map((name) => [name, toText(response[name])]);
  return { id, rawId: toText(rawId), type, response: Object.fromEntries(present) };
}

function toBytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}

function toText(buffer) {
  const characters = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(characters).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
