/** Operations whose answer has an access token. */
const SESSIONS = /\/api\/(auth\/(login|register|refresh)|cart\/guest)$/;

/** Uses the token of a login that is tried for what is tried next. */
function useToken(response) {
  if (response.ok && SESSIONS.test(new URL(response.url).pathname)) {
    window.ui.preauthorizeApiKey("bearer", response.obj.token);
  }
  return response;
}

window.onload = function () {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    filter: true,
    tryItOutEnabled: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    responseInterceptor: useToken,
    onComplete: () => {
      document.title = `${window.ui.specSelectors.info().get("title")} API`;
    },
  });
};
