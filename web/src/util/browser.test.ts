import { expect, test } from "vitest";
import { browser } from "./browser";

test("a browser is told by what it calls itself", () => {
  const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36";
  expect(browser(chrome)).toBe("Chrome on Linux");
  expect(browser(`${chrome} Edg/156.0`)).toBe("Edge on Linux");
  const phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1";
  expect(browser(phone)).toBe("Safari on an iPhone");
  expect(browser("curl/8.1")).toBe("curl/8.1");
  expect(browser(undefined)).toBe("A browser");
});
