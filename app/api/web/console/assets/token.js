/* The bearer token, stored until the tab is closed. */

const KEY = "jobs-gateway.token";

export class Token {
  get value() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  store(text) {
    sessionStorage.setItem(KEY, text.trim().replace(/^bearer\s+/i, ""));
  }

  forget() {
    sessionStorage.removeItem(KEY);
  }
}
