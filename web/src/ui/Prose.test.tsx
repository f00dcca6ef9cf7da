import { render } from "@testing-library/react";
import { expect, it } from "vitest";
import { byFile } from "../components/Patch";
import { blocksOf, Prose } from "./Prose";

const kinds = (text: string) => blocksOf(text).map((block) => block.kind);

it("knows the little Markdown that agents write", () => {
  const text =
    "# Done\n\nI did\nthis:\n- a\n- b\n  more\n\n3. c\n4. d\n> said\n```ts\nlet x\n\n# no heading\n```\nend";
  expect(kinds(text)).toEqual([
    "heading",
    "paragraph",
    "list",
    "list",
    "quote",
    "code",
    "paragraph",
  ]);
  expect(blocksOf(text)[5]).toEqual({
    kind: "code",
    language: "ts",
    text: "let x\n\n# no heading",
  });
  // A block that has not ended yet is code all the same.
  expect(kinds("```\nx")).toEqual(["code"]);
});

it("ends on any text", () => {
  for (const text of ["", "\n\n", "```", "- ", "#", "> ", "1. ", "**", "`", "  - x", "\t"]) {
    blocksOf(text);
  }
});

it("loads nothing, runs nothing, and shows where a link leads", () => {
  const text =
    "<img src=x onerror=alert(1)> ![p](https://evil.example/p.png) [run](javascript:alert(1)) [site](https://a.example/) **bold** `code`";
  const { container } = render(<Prose text={text} />);
  expect(container.querySelectorAll("img, script, iframe")).toHaveLength(0);
  const links = [...container.querySelectorAll("a")].map((a) => a.getAttribute("href"));
  expect(links).toEqual(["https://evil.example/p.png", "https://a.example/"]);
  expect(container.textContent).toContain("site (https://a.example/)");
  expect(container.textContent).toContain("run (javascript:alert(1");
  expect(container.querySelector("strong")?.textContent).toBe("bold");
  expect(container.querySelector("code")?.textContent).toBe("code");
});

it("cuts a patch into its files", () => {
  const patch =
    "diff --git a/x.txt b/x.txt\nindex 1..2 100644\n--- a/x.txt\n+++ b/x.txt\n@@ -1 +1 @@\n-a\n+b\ndiff --git a/new b b/new b\nnew file mode 100644\n--- /dev/null\n+++ b/new b\t\n@@ -0,0 +1 @@\n+c\n";
  expect(byFile(patch).map((file) => file.name)).toEqual(["x.txt", "new b"]);
  expect(byFile(patch)[0]?.lines).toEqual(["@@ -1 +1 @@", "-a", "+b"]);
  expect(byFile("")).toEqual([]);
});
