/* The bearer token, for as long as the tab is open and no longer. */

const KEY = "jobs-gateway.token";

export class Token {
  get value() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  keep(text) {
    sessionStorage.setItem(KEY, text.trim().replace(/^bearer\s+/i, ""));
  }

  forget() {
    sessionStorage.removeItem(KEY);
  }
}
