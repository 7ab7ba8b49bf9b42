/**
 * Where the shop's API is; "" if it has the origin of this page. The shop must allow this page's
 * origin in `http.cors.allowed_origins`.
 */
export const API = "http://127.0.0.1:8080";
