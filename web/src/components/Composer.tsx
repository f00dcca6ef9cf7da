import { useMutation, useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { client, createPrompt, stopSession, waitingPrompts, withdrawPrompt } from "../api/queries";
import type { PromptMode, SessionState } from "../api/types";
import { useDraft } from "../hooks/useDraft";
import { Button, Failure, TextArea } from "../ui/controls";

const MODES: { mode: PromptMode; name: string; hint: string }[] = [
  { mode: "queue", name: "Queue", hint: "After the running turn." },
  { mode: "steer", name: "Steer", hint: "Into the running turn, at its next tool boundary." },
  { mode: "interrupt", name: "Interrupt", hint: "The running turn is cancelled first." },
];

/** Says more to the agent, shows what waits to be said, and stops it. */
export function Composer({ session, state }: { session: string; state: SessionState }) {
  const [text, setText] = useDraft(session);
  const [mode, setMode] = useState<PromptMode>("queue");
  // The same until the server has it: a second try can't say it twice.
  const once = useRef(crypto.randomUUID());
  const busy = state === "running" || state === "waiting";
  const waiting = useQuery(waitingPrompts(session));
  const again = () => client.invalidateQueries({ queryKey: ["prompts", session] });

  const send = useMutation({
    mutationFn: () => createPrompt(session, text, busy ? mode : "queue", once.current),
    onSuccess: () => {
      once.current = crypto.randomUUID();
      setText("");
      void again();
    },
  });
  const stop = useMutation({ mutationFn: () => stopSession(session), onSettled: again });
  const withdraw = useMutation({
    mutationFn: (prompt: string) => withdrawPrompt(session, prompt),
    onSettled: again,
  });

  if (state === "ended") {
    return <p className="text-sm text-faint">This session is over: its workspace is gone.</p>;
  }
  const queue = waiting.data?.items ?? [];
  return (
    <form
      aria-label="Follow-up"
      className="grid gap-3"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() && !send.isPending) send.mutate();
      }}
    >
      {queue.length > 0 && (
        <ul aria-label="Waiting prompts" className="grid gap-1.5">
          {queue.map((prompt) => (
            <li
              key={prompt.id}
              className="flex items-center gap-3 rounded-lg bg-sunken px-3 py-1.5 text-sm"
            >
              <span className="text-xs text-faint">{prompt.mode}</span>
              <span className="line-clamp-2 min-w-0 flex-1">{prompt.text}</span>
              <Button
                className="border-transparent bg-transparent"
                disabled={withdraw.isPending}
                onClick={() => withdraw.mutate(prompt.id)}
              >
                Withdraw
              </Button>
            </li>
          ))}
        </ul>
      )}
      <TextArea
        label="Follow-up"
        rows={2}
        value={text}
        placeholder="Say what should be different, or what comes next"
        hint={busy ? MODES.find((one) => one.mode === mode)?.hint : undefined}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) {
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
      <div className="flex flex-wrap items-center gap-2">
        {busy && (
          <fieldset className="flex rounded-lg border border-line p-0.5">
            <legend className="sr-only">When it is delivered</legend>
            {MODES.map((one) => (
              <label
                key={one.mode}
                className="flex min-h-10 cursor-pointer items-center rounded-md px-3 text-sm has-checked:bg-accent-wash has-checked:text-accent has-focus-visible:outline-2 has-focus-visible:outline-accent sm:min-h-8"
              >
                <input
                  type="radio"
                  name="mode"
                  className="sr-only"
                  checked={mode === one.mode}
                  onChange={() => setMode(one.mode)}
                />
                {one.name}
              </label>
            ))}
          </fieldset>
        )}
        <span className="flex-1" />
        {busy && (
          <Button look="bad" disabled={stop.isPending} onClick={() => stop.mutate()}>
            {stop.isPending ? "Stopping…" : "Stop"}
          </Button>
        )}
        <Button type="submit" look="main" disabled={send.isPending || !text.trim()}>
          {send.isPending ? "Sending…" : "Send"}
        </Button>
      </div>
      {send.isError && <Failure cause={send.error} />}
      {stop.isError && <Failure cause={stop.error} />}
      {withdraw.isError && <Failure cause={withdraw.error} />}
    </form>
  );
}
