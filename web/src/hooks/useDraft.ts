import { useCallback, useState } from "react";

/** Text that a reload does not lose. Kept in this browser under `name` until it is cleared. */
export function useDraft(name: string): [string, (text: string) => void] {
  const key = `boatyard.draft.${name}`;
  const [text, setText] = useState(() => localStorage.getItem(key) ?? "");
  const change = useCallback(
    (next: string) => {
      setText(next);
      if (next) localStorage.setItem(key, next);
      else localStorage.removeItem(key);
    },
    [key],
  );
  return [text, change];
}
