// Requests to the server. Addresses are relative to the page's own, so that a path prefix changes nothing.

/** What the server refused, with its own sentence. */
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch {
    throw new Refusal(0, "The server does not answer. Is `entrocraft app` still running?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Refusal(response.status, answer?.message ?? `The server answered ${response.status}.`);
}

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);
export const put = (path, body) => request("PUT", path, body);

/** The part of an address that names a run. */
export const runPath = (name, rest = "") => `runs/${encodeURIComponent(name)}${rest}`;

/**
 * A function that sends what it is given, one request at a time. Of all that it is given while one is under way, only
 * the newest is sent, and only the answer to the newest is passed on.
 */
export function newestWins(send, answered, refused) {
  let waiting = null;
  let busy = false;
  return async (value) => {
    waiting = { value };
    if (busy) return;
    busy = true;
    while (waiting) {
      const asked = waiting.value;
      waiting = null;
      try {
        const answer = await send(asked);
        answered(answer, asked);
      } catch (error) {
        if (!waiting) refused(error, asked);
      }
    }
    busy = false;
  };
}
