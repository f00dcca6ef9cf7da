/** The page's addresses. Every link is made here. */
export const paths = {
  tasks: () => "/",
  task: (id: string) => `/tasks/${id}`,
  agents: () => "/agents",
  account: () => "/account",
  device: () => "/device",
  setup: (code: string) => `/setup?code=${encodeURIComponent(code)}`,
  signUp: () => "/sign-up",
  session: (id: string) => `/sessions/${id}`,
};

/** The addresses of what the browser loads by itself. */
export const files = {
  patch: (task: string, attempt: number) => `/api/tasks/${task}/patch?attempt=${attempt}`,
  blob: (id: string) => `/api/blobs/${id}`,
  docs: () => "/api/docs",
};
