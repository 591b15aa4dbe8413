// What is tried out goes where this page lies, which may be below a path of a proxy.
const servers = [{ url: new URL(".", document.baseURI).href }];

fetch("openapi.json").then((answer) => answer.json()).then((document) => window.SwaggerUIBundle({
  spec: { ...document, servers },
  dom_id: "#documentation",
  deepLinking: true,
  // Otherwise a badge would be asked for from another server.
  validatorUrl: null,
  presets: [window.SwaggerUIBundle.presets.apis],
}));
