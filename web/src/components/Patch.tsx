import { useQuery } from "@tanstack/react-query";
import { diff } from "../api/queries";
import type { DiffFile, TaskResult } from "../api/types";
import { Failure } from "../ui/controls";
import { files } from "../util/paths";

/** A file with more lines of patch than this is folded: it would make the page slow. */
const LINES_OPEN = 400;

const LINE: Record<string, string> = {
  "+": "bg-good-wash text-good",
  "-": "bg-bad-wash text-bad",
  "@": "text-accent",
};

/** The patch, cut into its files. Exported for its test. */
export function byFile(patch: string): { name: string; lines: string[] }[] {
  const out: { name: string; lines: string[] }[] = [];
  for (const line of patch.split("\n")) {
    if (line.startsWith("diff --git ")) {
      out.push({
        name: line
          .slice("diff --git ".length)
          .replace(/^.* "?b\//, "")
          .replace(/"$/, ""),
        lines: [],
      });
    } else if (/^\+\+\+ "?b\//.test(line)) {
      const last = out.at(-1);
      if (last) last.name = line.replace(/^\+\+\+ "?b\//, "").replace(/"?\t?$/, "");
    } else if (!/^(index |--- |\+\+\+ )/.test(line)) out.at(-1)?.lines.push(line);
  }
  return out;
}

export function Diffstat({ list }: { list: DiffFile[] }) {
  return (
    <ul aria-label="Changed files" className="grid gap-1 font-mono text-xs">
      {list.map((file) => (
        <li key={file.path} className="flex gap-3">
          <span className="min-w-0 flex-1">
            {file.old_path && file.old_path !== file.path ? `${file.old_path} → ` : ""}
            {file.path} <span className="font-sans text-faint">{file.change}</span>
          </span>
          <span className="whitespace-nowrap tabular-nums">
            {file.added == null ? (
              <span className="text-faint">binary</span>
            ) : (
              <>
                <span className="text-good">+{file.added}</span>{" "}
                <span className="text-bad">−{file.removed ?? 0}</span>
              </>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}

export function Patch({ result }: { result: TaskResult }) {
  const asked = useQuery(diff(result.task, result.attempt, result.head));
  if (asked.isPending) return <p className="text-sm text-faint">Reading the patch…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  return (
    <div className="grid min-w-0 gap-3">
      {byFile(asked.data.patch).map((file) => (
        <details
          key={file.name}
          open={file.lines.length <= LINES_OPEN}
          className="min-w-0 overflow-hidden rounded-lg border border-line"
        >
          <summary className="bg-sunken px-3 py-2 font-mono text-xs">
            {file.name} {file.lines.length > LINES_OPEN && `(${file.lines.length} lines)`}
          </summary>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <section aria-label={`Patch of ${file.name}`} tabIndex={0} className="overflow-x-auto">
            <pre className="w-max min-w-full font-mono text-xs leading-5 [overflow-wrap:normal]">
              {file.lines.map((line, at) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: a patch does not change
                <span key={at} className={`block px-3 ${LINE[line[0] ?? ""] ?? ""}`}>
                  {line || " "}
                </span>
              ))}
            </pre>
          </section>
        </details>
      ))}
      {asked.data.cut && (
        <p className="text-sm text-warn">
          The patch is too large to show in full.{" "}
          <a className="underline" href={files.patch(result.task, result.attempt)}>
            Download all of it
          </a>
        </p>
      )}
    </div>
  );
}
