import { Problem } from "../api/client";
import { whole } from "../util/format";

/**
 * Sorts a failure by the fields of a form: what belongs to one is said beside it, the rest above the
 * button.
 */
export function sorted(error: unknown, fields: readonly string[]) {
  if (!error) return { at: () => undefined, rest: undefined };
  const field = error instanceof Problem ? (error.field ?? "") : "";
  const own = fields.find((name) => field === name || field.startsWith(`${name}.`));
  return {
    /** What is wrong with a field. */
    at: (name: string): string | undefined => (name === own ? sentence(error) : undefined),
    /** What is wrong with none of them. */
    rest: own ? undefined : error,
  };
}

/** What went wrong and what to do, in one text. */
export function sentence(error: unknown): string {
  if (!(error instanceof Error)) return "Something went wrong.";
  const next = error instanceof Problem ? error.next : undefined;
  const texts = [error.message, next].filter((text): text is string => !!text);
  return texts.map(whole).join(" ");
}
