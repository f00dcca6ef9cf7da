import { expect, type Page } from "@playwright/test";
import { link, type Server, test } from "./server";

/** What the page may not do, whatever is shown: fail, or load from elsewhere. */
function watch(page: Page, server: Server): string[] {
  const wrong: string[] = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("console", (line) => {
    if (line.type() === "error" && !line.text().includes("status of 4")) wrong.push(line.text());
  });
  page.on("request", (request) => {
    const url = request.url();
    const own = [server.url, "data:", "blob:"].some((start) => url.startsWith(start));
    if (!own) wrong.push(`request: ${url}`);
  });
  return wrong;
}

async function order(page: Page, server: Server, prompt: string): Promise<void> {
  await page.goto(server.url);
  await page.getByLabel("New task").getByRole("textbox", { name: "New task" }).fill(prompt);
  await page.getByLabel("Repository").fill(server.repository);
  await page.getByRole("button", { name: "Start" }).click();
  await expect(page).toHaveURL(/\/tasks\/tsk_/);
}

test("who is not signed in is asked for a key", async ({ page, server }) => {
  await page.goto(`${server.url}/tasks/tsk_01ARZ3NDEKTSV4RRFFQ69G5FAV`);
  await page.getByLabel("Key").fill("by_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("not known");
  await page.getByLabel("Key").fill(server.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.getByRole("alert")).toContainText("no task");
  await page.getByRole("button", { name: /Account of/ }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByLabel("Key")).toBeVisible();
});

test("a link signs in once", async ({ browser, server }) => {
  const once = await link(server);
  const first = await (await browser.newContext()).newPage();
  await first.goto(once);
  await expect(first.getByLabel("Repository")).toBeVisible();
  expect(first.url()).not.toContain("code=");
  const second = await (await browser.newContext()).newPage();
  await second.goto(once);
  await expect(second.getByText("This link was used before")).toBeVisible();
});

test.describe("signed in", () => {
  let wrong: string[];

  test.beforeEach(async ({ page, server }) => {
    wrong = watch(page, server);
    await page.goto(await link(server));
    await expect(page.getByLabel("Repository")).toBeVisible();
  });
  test.afterEach(() => expect(wrong).toEqual([]));

  test("a task goes from order to diff before one's eyes", async ({ page, server }) => {
    await order(page, server, "make hello.txt with a greeting in it");
    const transcript = page.getByRole("log", { name: "Transcript" });
    await expect(transcript.getByText("I wrote hello.txt")).toBeVisible();
    await expect(page.getByText("Done", { exact: true })).toBeVisible();
    await expect(page.getByRole("list", { name: "Preparation" })).toContainText("workspace");
    await expect(page.getByRole("list", { name: "Changed files" })).toContainText("hello.txt");
    await page.getByText("Patch", { exact: true }).click();
    await expect(page.getByLabel("Patch of hello.txt")).toContainText("+");

    // A reload shows the same, and a follow-up goes on.
    await page.reload();
    await expect(transcript.getByText("I wrote hello.txt")).toBeVisible();
    await page.getByRole("textbox", { name: "Follow-up" }).fill("now make second.txt");
    await page.getByRole("button", { name: "Send" }).click();
    await expect(transcript.getByText("I wrote second.txt")).toBeVisible();
    await expect(page.getByRole("list", { name: "Changed files" })).toContainText("second.txt");

    await page.getByRole("link", { name: "Tasks" }).click();
    const row = page.getByRole("link", { name: /make hello.txt/ });
    await expect(row).toContainText("Done");
  });

  test("what is wrong is said beside the field", async ({ page }) => {
    const repository = page.getByLabel("Repository");
    await page.getByRole("textbox", { name: "New task" }).fill("x");
    await repository.fill("");
    await page.getByRole("button", { name: "Start" }).click();
    await expect(page.getByText("Name the repository to work on.")).toBeVisible();
    await repository.fill("file:///etc/passwd");
    await page.getByRole("button", { name: "Start" }).click();
    await expect(repository).toHaveAttribute("aria-invalid", "true");
  });

  test("a permission and a question are answered in place", async ({ page, server }) => {
    await order(page, server, "/demo permission");
    const permission = page.getByRole("region", { name: "Permission" });
    await expect(permission).toBeVisible();
    await expect(page.getByText("Needs you", { exact: true })).toBeVisible();
    await permission.getByRole("button").first().click();
    await expect(page.getByText(/: Allowed/)).toBeVisible();

    await order(page, server, "/demo question");
    const question = page.getByRole("region", { name: "Question" });
    await expect(question).toBeVisible();
    const option = question.getByRole("button").first();
    if ((await option.textContent()) === "Answer") {
      await question.getByRole("textbox").fill("blue");
    }
    await option.click();
    await expect(question).toBeHidden();
    await expect(page.getByText("Done", { exact: true })).toBeVisible();
  });

  test("work is followed, steered after, and stopped", async ({ page, server }) => {
    await order(page, server, "/demo slow 60");
    const stop = page.getByRole("button", { name: "Stop", exact: true });
    await expect(stop).toBeVisible();
    await page.getByRole("textbox", { name: "Follow-up" }).fill("later: make after.txt");
    await page.getByRole("button", { name: "Send" }).click();
    const waiting = page.getByRole("list", { name: "Waiting prompts" });
    await expect(waiting).toContainText("later: make after.txt");
    await waiting.getByRole("button", { name: "Withdraw" }).click();
    await expect(waiting).toBeHidden();
    await stop.click();
    await expect(page.getByText(/Stopped/)).toBeVisible();
    await expect(stop).toBeHidden();
  });

  test("the agents say what they need, and several are ordered", async ({ page, server }) => {
    await page.getByRole("link", { name: "Agents" }).click();
    const claude = page.getByRole("region", { name: "Claude Code" });
    await expect(claude.getByText("Not installed")).toBeVisible();
    await expect(claude.getByText("boatyard agent install claude")).toBeVisible();
    await expect(claude.getByRole("button", { name: "Install Claude Code" })).toBeEnabled();
    await expect(page.getByRole("region", { name: "Shell" }).getByText("Ready")).toBeVisible();

    await page.goto(server.url);
    await page.getByRole("button", { name: "Another agent beside it" }).click();
    await page.getByLabel("Agent", { exact: true }).nth(1).selectOption("shell");
    await page.getByRole("textbox", { name: "New task" }).fill("true");
    await page.getByLabel("Repository").fill(server.repository);
    await page.getByRole("button", { name: "Start" }).click();
    await expect(page).toHaveURL(/\/tasks\/tsk_/);
    const attempts = page.getByRole("region", { name: "Attempts" });
    await expect(attempts.getByText("demo", { exact: true }).first()).toBeVisible();
    await expect(attempts.getByText("shell", { exact: true }).first()).toBeVisible();
  });

  test("it fits a phone, in the dark, by keyboard", async ({ page, server }) => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.emulateMedia({ colorScheme: "dark" });
    await page.goto(server.url);
    await page.getByRole("textbox", { name: "New task" }).focus();
    await page.keyboard.type("make phone.txt");
    await page.getByLabel("Repository").fill(server.repository);
    await page.getByRole("textbox", { name: "New task" }).focus();
    await page.keyboard.press("Control+Enter");
    await expect(page.getByRole("log").getByText("I wrote phone.txt")).toBeVisible();
    await expect(page.getByRole("list", { name: "Changed files" })).toContainText("phone.txt");
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    expect(overflow).toBe(0);
    const page_ = await page.evaluate(
      () => getComputedStyle(document.documentElement).backgroundColor,
    );
    expect(page_).toBe("rgb(15, 20, 19)");
  });
});
