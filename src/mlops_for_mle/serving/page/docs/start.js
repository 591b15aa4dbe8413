window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#documentation",
  deepLinking: true,
  // Otherwise a badge would be asked for from another server.
  validatorUrl: null,
  presets: [window.SwaggerUIBundle.presets.apis],
});
