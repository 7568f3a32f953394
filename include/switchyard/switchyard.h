#pragma once

/// Everything. Data flows one way:
///   logits -> route -> Routing -> make_plan -> DispatchPlan -> pack -> experts -> combine
#include "switchyard/combine.h"
#include "switchyard/context.h"
#include "switchyard/device.h"
#include "switchyard/dtype.h"
#include "switchyard/error.h"
#include "switchyard/experts.h"
#include "switchyard/layer.h"
#include "switchyard/layout.h"
#include "switchyard/load.h"
#include "switchyard/losses.h"
#include "switchyard/pack.h"
#include "switchyard/plan.h"
#include "switchyard/quant.h"
#include "switchyard/router.h"
#include "switchyard/routing.h"
#include "switchyard/version.h"
#include "switchyard/view.h"
