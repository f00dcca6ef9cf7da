/**
 * Text from an agent, with the little Markdown that agents write.
 *
 * The text is not trusted. It becomes React elements and never HTML: there is nothing that could
 * load a picture from elsewhere, run, or look like a part of the page. A link shows where it leads.
 */
import type { ReactNode } from "react";

type Block =
  | { kind: "code"; language: string; text: string }
  | { kind: "heading"; text: string }
  | { kind: "list"; ordered: boolean; start: number; lines: string[] }
  | { kind: "quote"; text: string }
  | { kind: "paragraph"; text: string };

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const BULLET = /^\s*[-*+]\s+/;
const NUMBER = /^\s*(\d{1,9})[.)]\s+/;
const HEADING = /^ {0,3}#{1,6}\s+/;
const QUOTE = /^ {0,3}>\s?/;

/** The text in blocks. Exported for its test. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  let at = 0;
  const take = (is: (line: string) => boolean): string[] => {
    const from = at;
    while (at < lines.length && is(lines[at] ?? "")) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] ?? "";
    const fence = FENCE.exec(line);
    if (fence) {
      at += 1;
      const close = fence[1] ?? "```";
      const body = take((one) => !one.trim().startsWith(close));
      at += 1; // The closing fence, or past the end where it has not come yet.
      blocks.push({ kind: "code", language: fence[2] ?? "", text: body.join("\n") });
    } else if (HEADING.test(line)) {
      blocks.push({ kind: "heading", text: line.replace(HEADING, "").replace(/\s+#+\s*$/, "") });
      at += 1;
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      const ordered = !BULLET.test(line);
      const mark = ordered ? NUMBER : BULLET;
      const start = Number(NUMBER.exec(line)?.[1] ?? 1);
      const items: string[] = [];
      for (const one of take((l) => mark.test(l) || (/^\s{2,}\S/.test(l) && !FENCE.test(l)))) {
        if (mark.test(one)) items.push(one.replace(mark, ""));
        else items.push(`${items.pop() ?? ""}\n${one.trim()}`);
      }
      blocks.push({ kind: "list", ordered, start, lines: items });
    } else if (QUOTE.test(line)) {
      const body = take((one) => QUOTE.test(one)).map((one) => one.replace(QUOTE, ""));
      blocks.push({ kind: "quote", text: body.join("\n") });
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const ends = (one: string) =>
        one.trim() === "" || [FENCE, HEADING, BULLET, NUMBER, QUOTE].some((mark) => mark.test(one));
      at += 1;
      blocks.push({ kind: "paragraph", text: [line, ...take((one) => !ends(one))].join("\n") });
    }
  }
  return blocks;
}

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^*\n]+)\*\*|\[([^\]\n]+)\]\(([^\s)]+)\)/g;

function inline(text: string): ReactNode[] {
  const out: ReactNode[] = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    out.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [, , code, strong, label, target] = match;
    if (code !== undefined) {
      out.push(
        <code key={match.index} className="rounded bg-sunken px-1 py-0.5 font-mono text-[0.9em]">
          {code}
        </code>,
      );
    } else if (strong !== undefined) out.push(<strong key={match.index}>{strong}</strong>);
    else out.push(<OutLink key={match.index} label={label ?? ""} target={target ?? ""} />);
  }
  out.push(text.slice(from));
  return out;
}

/** A link to elsewhere; its target can be read before it is followed. */
function OutLink({ label, target }: { label: string; target: string }) {
  const shown = label === target ? label : `${label} (${target})`;
  if (!/^https?:\/\//i.test(target)) return <>{shown}</>;
  return (
    <a href={target} target="_blank" rel="noopener noreferrer" className="text-accent underline">
      {shown}
    </a>
  );
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    // A region that scrolls must be reachable by keyboard.
    <section
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: see above
      tabIndex={0}
      className="max-h-96 overflow-auto rounded-lg bg-sunken"
    >
      <pre className="w-max min-w-full px-3 py-2 font-mono text-xs leading-5 [overflow-wrap:normal]">
        {text}
      </pre>
    </section>
  );
}

export function Prose({ text }: { text: string }) {
  return (
    <div className="grid min-w-0 gap-2.5 text-[0.9375rem] leading-6">
      {blocksOf(text).map((block, at) => {
        const key = `${at}:${block.kind}`;
        switch (block.kind) {
          case "code":
            return <Code key={key} text={block.text} label={block.language || "Code"} />;
          case "heading":
            return (
              <p key={key} className="font-semibold">
                {inline(block.text)}
              </p>
            );
          case "list": {
            const List = block.ordered ? "ol" : "ul";
            return (
              <List
                key={key}
                start={block.ordered ? block.start : undefined}
                className={`grid gap-1 pl-6 ${block.ordered ? "list-decimal" : "list-disc"}`}
              >
                {block.lines.map((line, n) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: lines are only ever appended
                  <li key={n} className="whitespace-pre-line">
                    {inline(line)}
                  </li>
                ))}
              </List>
            );
          }
          case "quote":
            return (
              <blockquote
                key={key}
                className="whitespace-pre-line border-l-2 border-line pl-3 text-soft"
              >
                {inline(block.text)}
              </blockquote>
            );
          default:
            return (
              <p key={key} className="whitespace-pre-line">
                {inline(block.text)}
              </p>
            );
        }
      })}
    </div>
  );
}
