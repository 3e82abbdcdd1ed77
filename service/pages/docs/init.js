// The page is served at /docs, so every address here is relative to the service's root: it also works
// behind a custom domain with a base path.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  // The badge would send the address of this service to a host of Swagger's makers.
  validatorUrl: null,
  // Keys stay in the page's memory and are gone after a reload.
  persistAuthorization: false,
  // Nobody can point this page at a specification of their own with ?url= or ?configUrl=.
  queryConfigEnabled: false,
});
