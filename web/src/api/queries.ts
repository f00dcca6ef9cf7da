/** What the page asks for and keeps, by name, and what it changes. */
import { QueryClient, queryOptions } from "@tanstack/react-query";
import { api, Problem, remember, unwrap } from "./client";
import type { AttemptState, Identity, NewTask, PromptMode, SessionChange } from "./types";

/** How often a task is read again while its workspace is made: its phases have no events. */
const PREPARING_EVERY = 1000;

/** How often the agents are read again while one is installed. */
const INSTALLING_EVERY = 1000;

const PAGE = 50;

export const OVER: readonly AttemptState[] = ["succeeded", "failed", "cancelled"];

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      retry: (failures, cause) =>
        failures < 2 && !(cause instanceof Problem && cause.status >= 400 && cause.status < 500),
    },
  },
});

export const identity = queryOptions({
  queryKey: ["identity"],
  staleTime: Number.POSITIVE_INFINITY,
  queryFn: async (): Promise<Identity | null> => {
    try {
      const found = await unwrap(api.GET("/api/auth/me"));
      remember(found);
      return found;
    } catch (cause) {
      if (cause instanceof Problem && cause.status === 401) return null;
      throw cause;
    }
  },
});

export const tasks = queryOptions({
  queryKey: ["tasks"],
  queryFn: () => unwrap(api.GET("/api/tasks", { params: { query: { limit: PAGE } } })),
});

export const agents = queryOptions({
  queryKey: ["agents"],
  queryFn: () => unwrap(api.GET("/api/agents")),
  // An installation has no events of its own.
  refetchInterval: ({ state }) =>
    state.data?.items.some((agent) => agent.installed?.some((tool) => tool.state === "installing"))
      ? INSTALLING_EVERY
      : false,
});

export const repositories = queryOptions({
  queryKey: ["repositories"],
  queryFn: () => unwrap(api.GET("/api/repositories", { params: { query: { limit: PAGE } } })),
});

export const task = (id: string) =>
  queryOptions({
    queryKey: ["task", id],
    queryFn: () => unwrap(api.GET("/api/tasks/{id}", { params: { path: { id } } })),
    refetchInterval: ({ state }) =>
      state.data?.state === "queued" || state.data?.state === "preparing" ? PREPARING_EVERY : false,
  });

export const diff = (id: string, attempt: number, head: string) =>
  queryOptions({
    queryKey: ["diff", id, attempt, head],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () =>
      unwrap(api.GET("/api/tasks/{id}/diff", { params: { path: { id }, query: { attempt } } })),
  });

export const session = (id: string) =>
  queryOptions({
    queryKey: ["session", id],
    queryFn: () => unwrap(api.GET("/api/sessions/{id}", { params: { path: { id } } })),
  });

/** Where a session works. */
export const workspace = (id: string) =>
  queryOptions({
    queryKey: ["workspace", id],
    queryFn: () => unwrap(api.GET("/api/workspaces/{id}", { params: { path: { id } } })),
  });

export const waitingPrompts = (id: string) =>
  queryOptions({
    queryKey: ["prompts", id],
    queryFn: () =>
      unwrap(
        api.GET("/api/sessions/{id}/prompts", {
          params: { path: { id }, query: { state: "queued" } },
        }),
      ),
  });

export async function signOut(): Promise<void> {
  await unwrap(api.POST("/api/auth/logout"));
  remember(null);
  client.setQueryData(identity.queryKey, null);
  // What belonged to who was signed in goes; whether somebody is stays, the page looks at it.
  client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== identity.queryKey[0] });
}

/** `once` makes a second sending of the same order harmless. */
export function createTask(body: NewTask, once: string) {
  return unwrap(api.POST("/api/tasks", { body, params: { header: { "Idempotency-Key": once } } }));
}

export function installAgent(name: string) {
  return unwrap(
    api.POST("/api/agents/{name}/install", {
      params: { path: { name } },
      body: { force: false, packages: [] },
    }),
  );
}

export function cancelTask(id: string) {
  return unwrap(api.POST("/api/tasks/{id}/cancel", { params: { path: { id } } }));
}

export function pushAttempt(id: string, attempt: number) {
  return unwrap(api.POST("/api/tasks/{id}/push", { params: { path: { id }, query: { attempt } } }));
}

export function createPrompt(id: string, text: string, mode: PromptMode, once: string) {
  return unwrap(
    api.POST("/api/sessions/{id}/prompts", {
      params: { path: { id }, header: { "Idempotency-Key": once } },
      body: { text, mode },
    }),
  );
}

export function withdrawPrompt(id: string, prompt: string) {
  return unwrap(
    api.DELETE("/api/sessions/{id}/prompts/{prompt}", { params: { path: { id, prompt } } }),
  );
}

export function changeSession(id: string, body: SessionChange) {
  return unwrap(api.PATCH("/api/sessions/{id}", { params: { path: { id } }, body }));
}

export function stopSession(id: string) {
  return unwrap(api.POST("/api/sessions/{id}/stop", { params: { path: { id } } }));
}

export function answerPermission(id: string, permission: string, option: string) {
  return unwrap(
    api.POST("/api/sessions/{id}/permissions/{permission}", {
      params: { path: { id, permission } },
      body: { option, decision: null },
    }),
  );
}

export function answerQuestion(id: string, question: string, answer: string) {
  return unwrap(
    api.POST("/api/sessions/{id}/questions/{question}", {
      params: { path: { id, question } },
      body: { answer },
    }),
  );
}
