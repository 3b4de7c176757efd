/* The API, as the page uses it: send a request, and get what was asked for or a Problem. */

// Beside this file, whatever path a proxy has put the service under.
const API = new URL("api", import.meta.url).pathname;
const TIMEOUT_MILLISECONDS = 60_000;

/* What went wrong with a request: the members of the API's problem, or `code` and `detail` of our own. */
export class Problem extends Error {
  constructor(members, response) {
    super(members.detail);
    this.code = members.code;
    this.errors = members.errors ?? [];
    this.requestId = response?.status >= 500 ? members.request_id : undefined;
    this.wait = waitingTime(response?.headers.get("Retry-After"));
  }
}

// What a response is expected to be, by its JSON and its text.
export const isUser = (data) => typeof data?.username === "string";
export const isEmpty = (data, text) => text === "";
export const isList = (data) => Array.isArray(data);
export const hasTime = (data) => data?.created_time !== undefined;
export const hasCode = (data) => typeof data?.recovery_code === "string";
export const hasCount = (data) => typeof data?.ended === "number";
export const hasName = (data) => typeof data?.name === "string";
export const isOptions = (data) => typeof data?.challenge === "string";
export const isAccepted = (data) => Array.isArray(data?.allAcceptedCredentialIds);

/* Send a request to a path of the API; return the JSON of the response. Throws Problem. */
export async function send(method, path, body = undefined, isExpected = isUser) {
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
    throw new Problem({ code: "no_response", detail });
  }
  const data = parse(text);
  if (response.ok && isExpected(data, text)) return data;
  if (!response.ok && typeof data?.code === "string") throw new Problem(data, response);
  // A proxy's page, or that of a network that wants a login of its own.
  const detail = `Your network or a proxy responded instead of the service (${response.status}). Try again later.`;
  throw new Problem({ code: "no_response", detail }, response);
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
