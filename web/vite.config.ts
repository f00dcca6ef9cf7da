import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `make dev` says where the server is; the page itself always speaks to its own origin.
const server = process.env.BOATYARD_SERVER ?? "http://127.0.0.1:7070";
const proxied = ["/api", "/health", "/metrics", "/skill.md"];

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 600 },
  server: {
    port: Number(process.env.PORT ?? 5173),
    // The server refuses requests from other origins: behind the proxy the page's origin is its own.
    proxy: Object.fromEntries(
      proxied.map((path) => [
        path,
        {
          target: server,
          changeOrigin: true,
          configure: (proxy: { on(event: "proxyReq", then: (request: Outgoing) => void): void }) =>
            proxy.on("proxyReq", (request) => {
              if (request.getHeader("origin")) request.setHeader("origin", server);
            }),
        },
      ]),
    ),
  },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});

interface Outgoing {
  getHeader(name: string): unknown;
  setHeader(name: string, value: string): void;
}
