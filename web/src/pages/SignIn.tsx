import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Problem } from "../api/client";
import { signIn } from "../api/queries";
import { Button, Card, Note, TextField } from "../ui/controls";

/** For those who are not signed in: a key, or where to get a link. */
export function SignIn() {
  const [key, setKey] = useState("");
  const used = new URLSearchParams(location.search).get("link") === "used";
  const enter = useMutation({
    mutationFn: () => signIn(key.trim()),
    onSuccess: () => {
      if (used) history.replaceState(null, "", "/");
    },
  });
  const problem =
    enter.error instanceof Problem
      ? enter.error
      : enter.error && new Error("Something went wrong.");
  return (
    <main className="mx-auto grid min-h-dvh w-full max-w-md content-center gap-6 px-4 py-10">
      <div className="flex items-center gap-3">
        <img src="/favicon.svg" alt="" width={40} height={40} />
        <div>
          <h1 className="text-xl font-semibold">Boatyard</h1>
          <p className="text-sm text-soft">Coding agents in workspaces of their own</p>
        </div>
      </div>
      {used && (
        <Note tone="warn">
          This link was used before, or is too old. Sign in with the key, or start{" "}
          <code className="font-mono">boatyard up</code> again: it prints a new one.
        </Note>
      )}
      <Card className="p-5">
        <form
          className="grid gap-4"
          onSubmit={(event) => {
            event.preventDefault();
            if (key.trim()) enter.mutate();
          }}
        >
          <TextField
            label="Key"
            type="password"
            autoComplete="current-password"
            spellCheck={false}
            placeholder="by_…"
            value={key}
            problem={
              problem
                ? [problem.message, problem instanceof Problem ? problem.next : ""]
                    .filter(Boolean)
                    .join(". ")
                : undefined
            }
            onChange={(event) => setKey(event.target.value)}
          />
          <Button type="submit" look="main" disabled={enter.isPending || !key.trim()}>
            {enter.isPending ? "Signing in…" : "Sign in"}
          </Button>
        </form>
      </Card>
      <p className="text-sm text-soft">
        Or open the link that <code className="font-mono">boatyard up</code> printed at its start.
        On the server's machine the key is in the data folder, in{" "}
        <code className="font-mono">client.toml</code>.
      </p>
    </main>
  );
}
