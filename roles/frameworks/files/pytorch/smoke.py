"""A training step that lowers the loss, on the CPU."""

import torch

torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(64, 8)
target = data.sum(dim=1, keepdim=True)
losses = []
for _ in range(20):
    loss = torch.nn.functional.mse_loss(model(data), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 2, losses
print(f"torch {torch.__version__}: loss {losses[0]:.2f} to {losses[-1]:.2f}")
