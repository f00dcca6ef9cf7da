import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { answerPermission, answerQuestion } from "../api/queries";
import type { ItemOf } from "../session/transcript";
import { Button, Failure, TextField } from "../ui/controls";

const OUTCOMES: Record<string, string> = {
  allowed: "Allowed",
  denied: "Denied",
  expired: "Nobody answered in time, which is a no",
  cancelled: "The turn ended first",
};

const FRAME = "grid gap-3 rounded-xl border border-warn bg-warn-wash p-4 text-sm";
const DONE = "rounded-lg border border-line px-3 py-2 text-sm text-soft";
const until = (deadline: string) => `No answer by ${new Date(deadline).toLocaleString()}`;

/** The agent asks to be allowed something. */
export function Permission({ session, item }: { session: string; item: ItemOf<"permission"> }) {
  const answer = useMutation({
    mutationFn: (option: string) => answerPermission(session, item.id, option),
  });
  if (item.outcome) {
    const name = item.options.find((option) => option.id === item.option)?.name;
    return (
      <p className={DONE}>
        {item.title}: {OUTCOMES[item.outcome] ?? item.outcome}
        {name && ` (${name})`}
        {item.by && ` by ${item.by}`}
      </p>
    );
  }
  return (
    <section aria-label="Permission" className={FRAME}>
      <p>
        <strong className="font-semibold">May it?</strong> {item.title}
      </p>
      <div className="flex flex-wrap gap-2">
        {item.options.map((option) => (
          <Button
            key={option.id}
            look={
              option.kind === "allow_once"
                ? "main"
                : option.kind.startsWith("reject")
                  ? "bad"
                  : "plain"
            }
            disabled={answer.isPending || answer.isSuccess}
            onClick={() => answer.mutate(option.id)}
          >
            {option.name}
          </Button>
        ))}
      </div>
      <p className="text-xs text-soft">{until(item.deadline)} is a no.</p>
      {answer.isError && <Failure cause={answer.error} />}
    </section>
  );
}

/** The agent asks a person something. */
export function Question({ session, item }: { session: string; item: ItemOf<"question"> }) {
  const [text, setText] = useState("");
  const answer = useMutation({
    mutationFn: (said: string) => answerQuestion(session, item.id, said),
  });
  if (item.answered) {
    return (
      <p className={DONE}>
        {item.text} <span className="text-ink">{item.answer ?? "Nobody answered."}</span>
        {item.by && ` (${item.by})`}
      </p>
    );
  }
  const busy = answer.isPending || answer.isSuccess;
  return (
    <section aria-label="Question" className={FRAME}>
      <p className="whitespace-pre-line font-medium">{item.text}</p>
      {item.options.length > 0 && (
        <div className="flex flex-wrap gap-2">
          {item.options.map((option) => (
            <Button key={option} disabled={busy} onClick={() => answer.mutate(option)}>
              {option}
            </Button>
          ))}
        </div>
      )}
      <form
        className="flex flex-wrap items-end gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) answer.mutate(text.trim());
        }}
      >
        <div className="min-w-48 flex-1">
          <TextField
            label={item.options.length > 0 ? "Or in your own words" : "Your answer"}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
        <Button type="submit" look="main" disabled={busy || !text.trim()}>
          Answer
        </Button>
      </form>
      <p className="text-xs text-soft">{until(item.deadline)} ends the question.</p>
      {answer.isError && <Failure cause={answer.error} />}
    </section>
  );
}
