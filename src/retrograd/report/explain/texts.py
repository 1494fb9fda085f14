"""The words of the lesson, in English and Chinese. Formulas and names are the same in both.

A text is one field of :class:`Texts`, so neither language can lack one. Names in braces are filled in by :func:`fill`;
``_{t-1}`` is a subscript.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LANGUAGES", "Texts", "fill"]


def fill(text: str, **values: object) -> str:
    """Put values in the place of their names in braces; other braces stay, as in subscripts.

    >>> fill("x_{t-1} of {count}", count=3)
    'x_{t-1} of 3'
    """
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


@dataclass(frozen=True)
class Texts:
    """All words of the terminal and the page, in one language."""

    tag: str

    title: str
    network: str
    output: str
    closed: str
    question: str
    rounded: str

    loss_final_state: str
    loss_all_states: str
    loss_squared_error: str
    loss_given: str

    forward: str
    forward_note: str
    forward_closed: str
    loss: str
    initialise: str
    initialise_note: str
    initialise_final_state: str
    initialise_all_states: str
    initialise_squared_error: str
    initialise_given: str
    propagate: str
    propagate_note: str
    propagate_closed: str
    propagate_last: str
    propagate_input: str
    propagate_fed: str
    propagate_first: str
    accumulate: str
    accumulate_note: str
    accumulate_output: str
    accumulate_nothing: str
    update: str
    update_note: str
    before_after: str
    fell: str
    rose: str
    level: str

    lags: str
    lags_note: str
    lag: str
    size: str
    share: str
    lags_sum: str
    lags_none: str

    check: str
    check_note: str
    entry: str
    by_backpropagation: str
    by_differences: str
    apart: str
    agree: str
    disagree: str

    overflow: str

    # The page alone.
    walk: str
    walk_keys: str
    position: str
    overview: str
    first: str
    back: str
    play: str
    pause: str
    next: str
    last: str
    drawing: str
    drawing_label: str
    legend_forward: str
    legend_backward: str
    legend_closed: str
    legend_loss: str
    results: str
    results_note: str
    weight: str
    value: str
    gradient: str
    updated: str
    map_note: str
    map_row: str
    map_column: str
    map_scale: str
    map_zero: str
    map_nothing: str
    map_broken: str
    map_cell: str
    map_pick: str
    panel: str
    panel_note: str
    panel_loss: str
    choice_final_state: str
    choice_all_states: str
    choice_squared_error: str
    choice_given: str
    panel_closed: str
    panel_closed_step: str
    panel_rate: str
    panel_target: str
    reset: str
    invalid: str
    rate_invalid: str
    valid: str
    same: str
    different: str
    no_script: str


ENGLISH = Texts(
    tag="en",
    title="Backpropagation through time, step by step",
    network="A linear recurrent network reads a sequence x_1 … x_T one step at a time. Its state h_t is all that it "
    "keeps of the past:",
    output="What it says at each step is its output:",
    closed="The loop is closed at t = {steps}: there the input is the network's own output of the step before, x_t = "
    "y_{t-1}.",
    question="The loss L rates the result in one number. The question is: when a weight changes a little, by how much "
    "does L change? That is the gradient of the weight. The same weights act at every step, so each gradient is a sum "
    "over time; one walk back through the sequence gives all of it.",
    rounded="Numbers are computed in double precision and shown to 4 digits.",
    loss_final_state="The loss is the sum of the final state's entries.",
    loss_all_states="The loss is the sum of all entries of all states.",
    loss_squared_error="The loss is half the sum of squared differences between outputs y_t and targets y*_t.",
    loss_given="The loss is given by the gradients g_t that it sends into the states: L = Σ_t g_tᵀ h_t.",
    forward="Forward: each state from the one before",
    forward_note="Every step takes the last state and the next input, and adds up.",
    forward_closed="Where the loop is closed, the output of the step before is the input.",
    loss="The loss",
    initialise="1. Initialise: where the loss looks",
    initialise_note="g_t is what the loss sends straight into the state h_t: how L changes with h_t when no later "
    "state follows.",
    initialise_final_state="The loss looks at the final state alone: 1 there, 0 at every other step.",
    initialise_all_states="The loss looks at every state: 1 everywhere.",
    initialise_squared_error="The loss looks at the outputs, and each output hands its part to its state through Cᵀ.",
    initialise_given="The gradients were given.",
    propagate="2. Propagate: back through time",
    propagate_note="δ_t is the whole gradient of h_t: what the loss sends straight in, and what comes back from the "
    "next state through the transposed weights. It is the recurrence of the states, transposed and run backward.",
    propagate_closed="Where the loop is closed at the next step, h_t made that input too: what arrived there comes "
    "back through Cᵀ.",
    propagate_last="Nothing follows the last state: its gradient is what the loss sends straight in.",
    propagate_input="The input has its gradient too:",
    propagate_fed="Where the input was the output y_{t-1}, its gradient goes on to h_{t-1}:",
    propagate_first="Before the first step stands h_0; its gradient is what comes back from h_1:",
    accumulate="3. Accumulate: sum over time",
    accumulate_note="At every step a weight was multiplied by something. Its gradient there is the gradient of the "
    "result times that something; the whole gradient is the sum over all steps.",
    accumulate_output="An output's gradient comes from the loss and, where it was fed back, from the input that it "
    "became.",
    accumulate_nothing="Nothing that the loss sees depends on C and c here: their gradients are 0.",
    update="4. Update: a step downhill",
    update_note="Each weight moves against its gradient: W ← W − lr ∂L/∂W, with the learning rate lr = {rate}.",
    before_after="L before: {before}. L after: {after}.",
    fell="The loss fell.",
    rose="The loss rose: the step was too long. The gradient is the slope at one point only; a smaller learning rate "
    "stays nearer to it.",
    level="The loss stayed the same.",
    lags="Where ∂L/∂W_hh comes from",
    lags_note="The same sum, sorted by lag k: how many steps lie between the state that the loss looked at and the "
    "use of W_hh. The share is measured along the gradient; shares add up to 1.",
    lag="lag k",
    size="size of the part",
    share="share",
    lags_sum="The parts add up to ∂L/∂W_hh; the largest deviation is {error}.",
    lags_none="∂L/∂W_hh is 0, so there are no shares.",
    check="Check: finite differences",
    check_note="Nothing of the above is used here: move one number by ±s, run the network forward twice, and take the "
    "slope (L(θ + s) − L(θ − s)) / 2s.",
    entry="entry",
    by_backpropagation="backpropagation",
    by_differences="finite difference",
    apart="apart",
    agree="All {count} entries agree: they are at most {largest} apart, and a finite difference is good to {allowed} "
    "here.",
    disagree="{count} of {total} entries do not agree: they are up to {largest} apart, and a finite difference should "
    "be good to {allowed} here.",
    overflow="Some numbers are no longer finite: the recurrence grows too fast for these weights.",
    walk="Walk through time",
    walk_keys="Keys: ← and → walk, Home and End jump, the space bar plays.",
    position="Position {position} of {count}",
    overview="The question",
    first="To the start",
    back="Back",
    play="Play",
    pause="Pause",
    next="On",
    last="To the end",
    drawing="The network, unrolled over time",
    drawing_label="The network unrolled over time; the formulas below the drawing give the same numbers as text.",
    legend_forward="forward: values",
    legend_backward="backward: gradients",
    legend_closed="closed loop: an output becomes the next input",
    legend_loss="what the loss sends straight in",
    results="All gradients",
    results_note="These follow every change that you make above.",
    weight="name",
    value="value",
    gradient="gradient",
    updated="after the update",
    map_note="Each cell is one part of ∂L/∂W_hh: what the loss sent into step t, carried k steps back, met there by "
    "the state before. Its colour shows its size, by the scale below. Together the cells are the gradient.",
    map_row="step t where the loss enters",
    map_column="lag k, in steps back",
    map_scale="size of the part",
    map_zero="exactly 0",
    map_nothing="before the start",
    map_broken="not finite",
    map_cell="step {t}, lag {k}: size {size}",
    map_pick="Touch or rest on a cell, or reach it with the Tab key, to read its matrix.",
    panel="Change the numbers",
    panel_note="Everything on this page follows at once.",
    panel_loss="Loss",
    choice_final_state="sum of the final state",
    choice_all_states="sum of all states",
    choice_squared_error="squared error of the outputs",
    choice_given="given gradients",
    panel_closed="Closed loop from the second step on: x_t = y_{t-1}",
    panel_closed_step="closed",
    panel_rate="Learning rate lr",
    panel_target="Target",
    reset="Put the first numbers back",
    invalid="{name} is not a number: the page keeps the last numbers that could be used.",
    rate_invalid="The learning rate must be above 0: the page keeps the last numbers that could be used.",
    valid="All numbers are used.",
    same="This page computes with its own small script. For the numbers it was made with, its results and the "
    "library's differ by at most {error}, relative to the largest of each.",
    different="This page's own script does not give the library's results: they differ by {error}. Do not trust this "
    "page.",
    no_script="The walk is drawn by the script inside this page: allow scripts to see it. This is the same in plain "
    "text:",
)

CHINESE = Texts(
    tag="zh-CN",
    title="时间反向传播：一步一步看",
    network="线性循环网络按顺序读入序列 x_1 … x_T，每次一步。它对过去的全部记忆就是隐藏状态 h_t：",
    output="它在每一步给出的结果是输出：",
    closed="在 t = {steps} 处是闭环：那里的输入就是网络自己上一步的输出，x_t = y_{t-1}。",
    question="损失 L 用一个数评价结果。问题是：某个权重略微改变时，L 会改变多少？这就是该权重的梯度。"
    "每一步用的都是同一组权重，所以每个梯度都是对时间的求和；沿序列往回走一遍，就能得到全部梯度。",
    rounded="所有数均以双精度计算，显示时保留 4 位有效数字。",
    loss_final_state="损失是最终状态各分量之和。",
    loss_all_states="损失是所有状态的所有分量之和。",
    loss_squared_error="损失是输出 y_t 与目标 y*_t 之差的平方和的一半。",
    loss_given="损失由它直接送入各状态的梯度 g_t 给出：L = Σ_t g_tᵀ h_t。",
    forward="前向：由前一个状态算出后一个状态",
    forward_note="每一步取上一个状态和下一个输入，加权相加。",
    forward_closed="在闭环处，上一步的输出就是这一步的输入。",
    loss="损失",
    initialise="1. 初始化：损失直接作用在哪里",
    initialise_note="g_t 是损失直接送入状态 h_t 的梯度：假设后面的状态都不随 h_t 改变，L 对 h_t 的变化率。",
    initialise_final_state="损失只取决于最终状态：那里的梯度是 1，其余各步都是 0。",
    initialise_all_states="损失取决于每一个状态：每一步都是 1。",
    initialise_squared_error="损失取决于输出，每个输出再通过 Cᵀ 把梯度传给自己的状态。",
    initialise_given="这些梯度是事先给定的。",
    propagate="2. 传播：沿时间往回走",
    propagate_note="δ_t 是 h_t 的完整梯度（伴随）：损失直接送入的部分，加上从下一个状态经转置权重传回的部分。"
    "它就是状态的递推，只是矩阵转置、时间反向。",
    propagate_closed="如果下一步是闭环，那一步的输入也由 h_t 产生：到达该输入的梯度经 Cᵀ 传回。",
    propagate_last="最后一个状态之后没有别的状态：它的梯度就是损失直接送入的部分。",
    propagate_input="输入也有自己的梯度：",
    propagate_fed="如果这个输入就是输出 y_{t-1}，它的梯度会继续传给 h_{t-1}：",
    propagate_first="第一步之前是 h_0；它的梯度是从 h_1 传回的部分：",
    accumulate="3. 累加：对时间求和",
    accumulate_note="每一步中，权重都与某个量相乘。它在这一步的梯度，等于乘积结果的梯度乘以那个量；"
    "完整的梯度是所有各步之和。",
    accumulate_output="输出的梯度来自损失；在闭环处，还来自由它变成的输入。",
    accumulate_nothing="这里的损失与 C 和 c 无关：它们的梯度是 0。",
    update="4. 更新：下坡走一步",
    update_note="每个权重沿梯度的反方向移动：W ← W − lr ∂L/∂W，学习率 lr = {rate}。",
    before_after="更新前 L = {before}，更新后 L = {after}。",
    fell="损失下降了。",
    rose="损失上升了：这一步迈得太大。梯度只是一个点上的斜率，学习率小一些才不会偏离太远。",
    level="损失没有变化。",
    lags="∂L/∂W_hh 从哪里来",
    lags_note="还是同一个和，只是按滞后 k 分组：从损失所取的状态往回，到用到 W_hh 的那一步，相隔几步。"
    "份额沿梯度方向度量，总和为 1。",
    lag="滞后 k",
    size="这一部分的大小",
    share="份额",
    lags_sum="各部分之和就是 ∂L/∂W_hh；最大偏差为 {error}。",
    lags_none="∂L/∂W_hh 为 0，因此没有份额可言。",
    check="检验：有限差分",
    check_note="这里完全不用上面的推导：把一个数移动 ±s，前向运行两次，取斜率 (L(θ + s) − L(θ − s)) / 2s。",
    entry="分量",
    by_backpropagation="反向传播",
    by_differences="有限差分",
    apart="相差",
    agree="{count} 个分量全部一致：最多相差 {largest}，而有限差分在这里只准到 {allowed}。",
    disagree="{total} 个分量中有 {count} 个不一致：最多相差 {largest}，而有限差分在这里应当准到 {allowed}。",
    overflow="有些数已经不是有限值：对于这组权重，递推增长得太快。",
    walk="沿时间走一遍",
    walk_keys="按键：← 和 → 前后移动，Home 和 End 跳到两端，空格键播放。",
    position="位置 {position} / {count}",
    overview="问题",
    first="回到开头",
    back="后退",
    play="播放",
    pause="暂停",
    next="前进",
    last="跳到结尾",
    drawing="沿时间展开的网络",
    drawing_label="沿时间展开的网络；图下方的公式以文字给出同样的数。",
    legend_forward="前向：数值",
    legend_backward="反向：梯度",
    legend_closed="闭环：输出成为下一步的输入",
    legend_loss="损失直接送入的部分",
    results="全部梯度",
    results_note="在上面做的任何改动都会立即反映在这里。",
    weight="名称",
    value="数值",
    gradient="梯度",
    updated="更新之后",
    map_note="每一格是 ∂L/∂W_hh 的一部分：损失送入第 t 步的梯度，往回传 k 步，在那里与前一个状态相乘。"
    "颜色按下方的色标表示大小。所有格子合起来就是梯度。",
    map_row="损失进入的步 t",
    map_column="滞后 k（往回的步数）",
    map_scale="这一部分的大小",
    map_zero="恰好为 0",
    map_nothing="在起点之前",
    map_broken="不是有限值",
    map_cell="第 {t} 步，滞后 {k}：大小 {size}",
    map_pick="触摸或指向一格，或用 Tab 键移到一格，即可读出它的矩阵。",
    panel="改变这些数",
    panel_note="整个页面会立即随之更新。",
    panel_loss="损失",
    choice_final_state="最终状态之和",
    choice_all_states="所有状态之和",
    choice_squared_error="输出的平方误差",
    choice_given="给定的梯度",
    panel_closed="从第二步起闭环：x_t = y_{t-1}",
    panel_closed_step="闭环",
    panel_rate="学习率 lr",
    panel_target="目标",
    reset="恢复最初的数",
    invalid="{name} 不是数：页面保留上一组可用的数。",
    rate_invalid="学习率必须大于 0：页面保留上一组可用的数。",
    valid="所有的数都已采用。",
    same="本页用自带的小脚本计算。对生成本页时的那组数，它的结果与程序库的结果最多相差 {error}（相对于各自的最大值）。",
    different="本页自带的脚本与程序库的结果不符，相差 {error}。请不要相信本页。",
    no_script="演算过程由本页内的脚本绘制：请允许运行脚本。以下是同样内容的纯文本：",
)

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}
