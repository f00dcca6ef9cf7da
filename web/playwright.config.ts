import { defineConfig } from "@playwright/test";

/** The page in a browser against a real server, which each worker starts for itself. */
export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results",
  // A sandbox, an agent and a browser share two cores.
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 20_000 },
  reporter: process.env.CI ? "list" : "line",
  use: {
    browserName: "chromium",
    colorScheme: "light",
    locale: "en-GB",
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.BOATYARD_CHROMIUM ?? "/usr/bin/chromium",
      // As root, Chromium has no sandbox of its own; what it loads is our page.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
  },
});
