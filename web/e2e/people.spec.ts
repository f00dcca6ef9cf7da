import { AxeBuilder } from "@axe-core/playwright";
import { type Browser, expect, type Page } from "@playwright/test";
import { call, type Team, test } from "./server";

const PASSWORD = "quiet harbour lights";
const ADA = "ada@example.com";

// One server for all of them: it is set up by the first.
test.describe.configure({ mode: "serial" });

async function fresh(browser: Browser): Promise<Page> {
  return (await browser.newContext()).newPage();
}

async function signIn(page: Page, team: Team, email = ADA, password = PASSWORD): Promise<void> {
  await page.goto(team.url);
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

async function isIn(page: Page, name: string): Promise<void> {
  await expect(page.getByRole("button", { name: `Account of ${name}` })).toBeVisible();
}

/** In light and dark, wide and narrow: nothing that keeps anybody out, and nothing beside the page. */
async function check(page: Page): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const [width, height] of [
      [1100, 760],
      [360, 740],
    ] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height });
      const found = await new AxeBuilder({ page })
        .withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"])
        .analyze();
      const wrong = found.violations.map(({ id, nodes }) => {
        const [first] = nodes;
        return `${id}: ${first?.target.join(" ")}: ${first?.any[0]?.message}`;
      });
      expect(wrong, `${colorScheme}, ${width} wide`).toEqual([]);
      const beside = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      expect(beside, `${width} wide`).toBe(false);
    }
  }
  await page.setViewportSize({ width: 1100, height: 760 });
}

test("whoever opens the printed link first sets the server up", async ({ page, browser, team }) => {
  await page.goto(team.url);
  await expect(page.getByText("This server has not been set up yet")).toBeVisible();
  await check(page);
  const other = await fresh(browser);
  await other.goto(team.setup);
  await expect(other.getByLabel("Name")).toBeVisible();

  await page.getByLabel("Link or code").fill(team.setup);
  await page.getByRole("button", { name: "Go on" }).click();
  await page.getByLabel("Name").fill("Ada Lovelace");
  await page.getByLabel("Email").fill(ADA);
  await page.getByLabel("Password", { exact: true }).fill("too short");
  await expect(page.getByRole("button", { name: "Set up" })).toBeDisabled();
  await check(page);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Set up" }).click();
  await isIn(page, "Ada Lovelace");
  expect(page.url()).not.toContain("code=");

  // Somebody had the form open, and was slower.
  await other.getByLabel("Name").fill("Mallory");
  await other.getByLabel("Email").fill("mallory@example.com");
  await other.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await other.getByRole("button", { name: "Set up" }).click();
  await expect(other.getByRole("alert")).toBeVisible();
  await other.reload();
  await expect(other.getByText("has been set up already")).toBeVisible();
});

test("an address and a password sign in, and the menu signs out", async ({ page, team }) => {
  await signIn(page, team, ADA, "not the password");
  await expect(page.getByRole("alert")).toBeVisible();
  await check(page);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Show password" }).click();
  await expect(page.getByLabel("Password", { exact: true })).toHaveAttribute("type", "text");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await isIn(page, "Ada Lovelace");
  await page.getByRole("button", { name: /Account of/ }).click();
  await check(page);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Sign out" })).toBeHidden();
  await page.getByRole("button", { name: /Account of/ }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Email")).toBeVisible();
});

test("an invitation brings somebody in, once", async ({ page, browser, team }) => {
  const body = { role: "viewer", email: "bob@example.com" };
  const { url } = (await call(team, "POST", "/api/invitations", body)) as { url: string };
  await page.goto(url);
  await expect(page.getByText(/invites you as a viewer/)).toBeVisible();
  await expect(page.getByLabel("Email")).toHaveValue("bob@example.com");
  await check(page);
  await page.getByLabel("Name").fill("Bob");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Join" }).click();
  await isIn(page, "Bob");
  const late = await fresh(browser);
  await late.goto(url);
  await expect(late.getByRole("alert")).toBeVisible();
  await check(late);
});

test("whoever has an account joins with it, and changes the organization", async ({
  page,
  team,
}) => {
  const made = (await call(team, "POST", "/api/organizations", { name: "Second Yard" })) as {
    id: string;
  };
  const answer = await fetch(`${team.url}/api/invitations`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${team.key}`,
      "Content-Type": "application/json",
      "X-Boatyard-Organization": made.id,
    },
    body: JSON.stringify({ role: "member" }),
  });
  expect(answer.status).toBe(201);
  const { url } = (await answer.json()) as { url: string };
  await page.goto(url);
  await page.getByRole("button", { name: "I have an account here already" }).click();
  await page.getByLabel("Email").fill("bob@example.com");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("button", { name: "Join Second Yard" }).click();
  const menu = page.getByRole("button", { name: "Account of Bob" });
  await expect(menu).toContainText("Second Yard");
  await menu.click();
  const organizations = page.getByRole("region", { name: "Organizations" });
  await expect(organizations.getByRole("button", { name: /Second Yard/ })).toBeDisabled();
  await check(page);
  await organizations
    .getByRole("button", { name: /viewer/ })
    .first()
    .click();
  await expect(menu).not.toContainText("Second Yard");
});

test("a program is let in by its code", async ({ page, team }) => {
  const asked = await fetch(`${team.url}/api/auth/device/code`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ client_id: "boatyard", client_name: "boatyard on laptop" }),
  });
  const codes = (await asked.json()) as Record<string, string>;
  await page.goto(`${team.url}/device?code=${codes.user_code}`);
  await page.getByLabel("Email").fill(ADA);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByText("boatyard on laptop")).toBeVisible();
  await expect(page.getByText(codes.user_code ?? "")).toBeVisible();
  await expect(page.getByText("127.0.0.1")).toBeVisible();
  await check(page);
  await page.getByRole("button", { name: "Approve" }).click();
  await expect(page.getByRole("status")).toContainText("is let in");
  await check(page);
  const token = await fetch(`${team.url}/api/auth/device/token`, {
    method: "POST",
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:device_code",
      device_code: codes.device_code ?? "",
    }),
  });
  expect(((await token.json()) as Record<string, string>).access_token).toMatch(/^by_/);

  await page.goto(`${team.url}/device`);
  await page.getByLabel("Code").fill("bcdf ghjk");
  await expect(page.getByLabel("Code")).toHaveValue("BCDF-GHJK");
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await check(page);
});

test("a browser is signed out from another", async ({ page, browser, team }) => {
  await signIn(page, team);
  await isIn(page, "Ada Lovelace");
  const other = await fresh(browser);
  await signIn(other, team);
  await isIn(other, "Ada Lovelace");
  await page.goto(`${team.url}/account`);
  await expect(page.getByText("This one")).toBeVisible();
  await check(page);
  await page.getByRole("button", { name: "Sign out everywhere else" }).click();
  await expect(page.getByRole("button", { name: "Sign out everywhere else" })).toBeHidden();
  await other.reload();
  await expect(other.getByLabel("Email")).toBeVisible();
  await isIn(page, "Ada Lovelace");
});

test("a passkey is made and signs in", async ({ page, team }) => {
  const client = await page.context().newCDPSession(page);
  await client.send("WebAuthn.enable");
  await client.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  await signIn(page, team);
  await isIn(page, "Ada Lovelace");
  await page.goto(`${team.url}/account`);
  await page.getByLabel("Name of a new passkey").fill("Laptop");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await expect(page.getByRole("button", { name: "Remove Laptop" })).toBeVisible();
  await page.getByRole("button", { name: /Account of/ }).click();
  await page.getByRole("button", { name: "Sign out", exact: true }).last().click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await isIn(page, "Ada Lovelace");
});

test("an account is made where everybody may", async ({ page, team }) => {
  await page.goto(team.url);
  await page.getByRole("link", { name: "Make one" }).click();
  await page.getByLabel("Name").fill("Eve");
  await page.getByLabel("Email").fill(ADA);
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Make the account" }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await check(page);
  await page.getByLabel("Email").fill("eve@example.com");
  await page.getByRole("button", { name: "Make the account" }).click();
  await isIn(page, "Eve");
});
