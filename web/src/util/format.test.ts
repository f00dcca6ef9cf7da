import { expect, it } from "vitest";
import { ago, count, duration, short, shortRevision, shortSource, whole } from "./format";

it("says times as people do", () => {
  const said = [0, 340, 2400, 59_000, 60_000, 185_000, 7_800_000].map(duration);
  expect(said).toEqual(["0 ms", "340 ms", "2.4 s", "59 s", "1 min", "3 min 5 s", "2 h 10 min"]);
  const now = Date.parse("2026-01-02T12:00:00Z");
  expect(ago("2026-01-02T11:59:40Z", now)).toBe("just now");
  expect(ago("2026-01-02T11:55:00Z", now)).toBe("5 min ago");
  expect(ago("2026-01-02T09:00:00Z", now)).toBe("3 h ago");
});

it("shortens what is long", () => {
  expect(shortSource("https://git.example/owner/repo.git")).toBe("owner/repo");
  expect(shortSource("ssh://git@git.example:22/owner/repo")).toBe("owner/repo");
  expect(shortSource("sent:garden-00e003b2")).toBe("garden");
  expect(shortRevision("a".repeat(40))).toBe("a".repeat(10));
  expect(shortRevision("main")).toBe("main");
  expect([950, 12_300, 1_200_000].map(short)).toEqual(["950", "12.3k", "1.2M"]);
  expect([count(1, "file"), count(3, "file")]).toEqual(["1 file", "3 files"]);
});

it("makes sentences of what the server says", () => {
  expect(whole("the password is wrong")).toBe("The password is wrong.");
  expect(whole("Try again.")).toBe("Try again.");
  // A name is not to be written otherwise.
  expect(whole("example.com can't be reached")).toBe("example.com can't be reached.");
});
